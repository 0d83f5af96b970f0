/** The engines that the supervisor of this user holds, as servers of a fleet in another process. */
import { watch } from "node:fs"
import { basename, dirname } from "node:path"
import type * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Servers from "../Servers.js"
import * as Client from "./client.js"
import { type Paths, paths } from "./paths.js"
import { startOf } from "./processes.js"
import { serversOf } from "./servers.js"
import * as StateFile from "./stateFile.js"

/** Between two reports of what is used, in milliseconds. */
const reportInterval = 1_000

/** What its file says, if the supervisor that wrote it still runs. */
const readState = async (at: Paths) => {
  const status = StateFile.read(at)
  if (status === undefined) return undefined
  return (await startOf(status.pid)) === (status.processStart ?? undefined) ? status : undefined
}

/** The servers, kept up to date until the scope closes. Nothing is asked: the supervisor notes them in a file. */
export const make: Effect.Effect<Servers.Service, never, Path.Path | Scope.Scope> = Effect.gen(function* () {
  const at = yield* paths
  const client = Client.make(at)
  const runFork = (effect: Effect.Effect<void, unknown>): void => {
    // @effect-diagnostics-next-line runEffectInsideEffect:off
    Effect.runFork(Effect.ignore(effect))
  }
  const made = yield* Servers.make((model) => runFork(client.want(model)))
  const read = Effect.flatMap(
    Effect.promise(() => readState(at)),
    (status) => made.set(serversOf(status?.models ?? []))
  )
  yield* read
  const answered = new Map<string, number>()
  /** Tells the supervisor which models are in use here, so that it keeps them. */
  const report = (): void => {
    const used = new Set<string>()
    for (const { info, server } of made.service.now()) {
      const usage = made.usage(server.url, info.model_name)
      const before = answered.get(server.url) ?? 0
      answered.set(server.url, usage.answered)
      if (usage.inFlight > 0 || usage.queued > 0 || usage.answered > before) used.add(info.model_name)
    }
    for (const model of used) runFork(client.touch(model))
  }
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      const timer = setInterval(report, reportInterval)
      timer.unref()
      try {
        const watcher = watch(dirname(at.state), { persistent: false }, (_, name) => {
          if (name === basename(at.state)) runFork(read)
        })
        watcher.on("error", () => {})
        return { timer, watcher }
      } catch {
        // The folder is made with the first supervisor.
        return { timer, watcher: undefined }
      }
    }),
    ({ timer, watcher }) =>
      Effect.sync(() => {
        clearInterval(timer)
        watcher?.close()
      })
  )
  return made.service
})

/** The same as a layer. */
export const layer: Layer.Layer<Servers.Servers, never, Path.Path> = Layer.scoped(Servers.Servers, make)
