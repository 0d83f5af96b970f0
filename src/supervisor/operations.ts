/** What gateways have done with the models of this machine. Bodies and answers are JSON: they may come over a socket. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { InvalidRequest, type LocalModelError, ModelNotStored } from "../Errors.js"
import { decodeStartOptions, type Operation, type PullTask } from "../LocalModels.js"
import type * as ModelStore from "../ModelStore.js"
import type { Manager } from "./manager.js"
import type { ModelSettings } from "./modelSettings.js"
import * as Tasks from "./tasks.js"

interface Body {
  readonly [name: string]: unknown
}

type Run = (body: Body) => Effect.Effect<unknown, LocalModelError | InvalidRequest>

export type Operations = { readonly [name in Operation]: Run }

const text = (body: Body, name: string): Effect.Effect<string, InvalidRequest> => {
  const value = body[name]
  return typeof value === "string" && value.trim() !== ""
    ? Effect.succeed(value)
    : Effect.fail(new InvalidRequest({ field: name, reason: "is missing" }))
}

const optionalText = (body: Body, name: string): string | undefined => {
  const value = body[name]
  return typeof value === "string" && value !== "" ? value : undefined
}

const object = (value: unknown): Body => (typeof value === "object" && value !== null ? (value as Body) : {})

/** `told`: receives each step of a download. */
export const make = (
  manager: Manager,
  store: ModelStore.Service,
  settings: ModelSettings,
  told: (task: PullTask) => void
): Effect.Effect<{ readonly run: Operations; readonly tasks: () => ReadonlyArray<PullTask> }, never, Scope.Scope> =>
  Effect.map(Tasks.make(store, told, manager.refresh), (tasks) => {
    /** The name of a model of the store, which may have been asked for by another one. */
    const known = (model: string) =>
      Effect.flatMap(
        Effect.sync(() => manager.models()),
        (models) => {
          const found = models.find(({ name, names }) => name === model || names.includes(model))
          if (found !== undefined) return Effect.succeed(found.name)
          return Effect.fail(new ModelNotStored({ model, stored: models.map(({ name }) => name).slice(0, 20) }))
        }
      )
    const run: Operations = {
      start: Effect.fnUntraced(function* (body) {
        const model = yield* text(body, "model")
        const options = yield* decodeStartOptions(object(body["options"]))
        return { model: yield* manager.start(model, options, options.keepAlive, false) }
      }),
      stop: Effect.fnUntraced(function* (body) {
        const model = yield* text(body, "model")
        const name = yield* Effect.orElseSucceed(known(model), () => model)
        return { model: name, stopped: yield* manager.stop(name) }
      }),
      pull: Effect.fnUntraced(function* (body) {
        return yield* tasks.pull(yield* text(body, "model"), optionalText(body, "name"))
      }),
      cancelPull: Effect.fnUntraced(function* (body) {
        return (yield* tasks.cancel(yield* text(body, "task"))) ?? null
      }),
      import: Effect.fnUntraced(function* (body) {
        const options = { name: optionalText(body, "name"), copy: body["copy"] === true }
        const { name, path, size } = yield* store.importFile(yield* text(body, "path"), options)
        yield* manager.refresh
        return { name, path, size }
      }),
      remove: Effect.fnUntraced(function* (body) {
        const name = yield* known(yield* text(body, "model"))
        yield* manager.stop(name)
        yield* store.remove(name)
        yield* settings.forget(name)
        yield* manager.refresh
        return { model: name }
      }),
      configure: Effect.fnUntraced(function* (body) {
        const name = yield* known(yield* text(body, "model"))
        return { model: name, settings: yield* settings.change(name, object(body["settings"])) }
      }),
      settings: Effect.fnUntraced(function* (body) {
        const name = yield* known(yield* text(body, "model"))
        return { model: name, settings: settings.of(name) }
      }),
      quantisations: Effect.fnUntraced(function* (body) {
        const model = yield* text(body, "model")
        const all = yield* store.quantisations(model)
        return {
          model,
          quantisations: all.map(({ chosen, fits, name, size }) => ({ name, size, fits: fits ?? null, chosen }))
        }
      })
    }
    return { run, tasks: tasks.list }
  })
