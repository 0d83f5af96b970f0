/** The models of this machine, for `aicortex pull`, `ls`, `show` and `rm`. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { type ModelReference, ModelStore, type StoredModel } from "../../ModelStore.js"
import { UsageError } from "../errors.js"
import * as Output from "../output.js"
import * as Table from "../table.js"
import { LocalProgress } from "./localProgress.js"
import * as Units from "./units.js"

/** What stands in the place of a server's address. */
export const thisMachine = "this machine"

export interface PullFlags {
  readonly model: string
  readonly name: string | undefined
  readonly copy: boolean
  readonly list: boolean
  readonly json: boolean
  /** Whether standard output belongs to another command: results go to standard error. */
  readonly quiet?: boolean
}

/** A number of parameters, such as `3.2B`. */
export const parameterSize = (count: number): string => {
  const [unit, by] = count >= 1e9 ? (["B", 1e9] as const) : count >= 1e6 ? (["M", 1e6] as const) : (["K", 1e3] as const)
  return `${(count / by).toFixed(count / by >= 100 ? 0 : 1)}${unit}`
}

const usage = (message: string) => new UsageError({ message, command: ["pull"] })

const listQuantisations = Effect.fnUntraced(function* ({ json, model }: PullFlags) {
  const store = yield* ModelStore
  const all = yield* store.quantisations(model)
  if (json) return yield* Output.writeJson(all)
  if (all.length === 0) return yield* Output.notice(`${model} has no GGUF files`)
  yield* Output.write(
    Table.table(
      ["Quantization", "Size", "Fits in memory", ""],
      all.map(({ chosen, fits, name, size }) => [
        name,
        Units.bytes(size),
        fits === undefined ? "-" : fits ? "yes" : "no",
        chosen ? "taken where none is named" : ""
      ])
    )
  )
})

const written = (model: StoredModel, { json, quiet = false }: PullFlags, fresh: boolean) => {
  if (json) return Effect.void
  const what = model.kept ? "is on this machine" : `is the file ${model.path}`
  const said = `${model.name} ${what}${fresh ? "" : " already"} (${Units.bytes(model.size)})`
  return quiet ? Output.dimNotice(said) : Output.write(`${said}.\n`)
}

/** Downloads a model to this machine, or makes one of a file. */
export const pull = Effect.fnUntraced(function* (reference: ModelReference, flags: PullFlags) {
  const store = yield* ModelStore
  const { copy, json, model, name } = flags
  if (flags.list) return yield* listQuantisations(flags)
  if (reference.kind === "file") {
    const imported = yield* store.importFile(reference.path, { name, copy })
    if (json) yield* Output.writeLine(`${JSON.stringify({ type: "done", model: imported, fresh: true })}\n`)
    return yield* written(imported, flags, true)
  }
  if (copy) return yield* usage("--copy is for a file of this machine: what is downloaded is kept anyway")
  const progress = new LocalProgress(name ?? model)
  const again = `aicortex pull ${model}${name === undefined ? "" : ` --name ${name}`}`
  const whatIsLeft = Effect.suspend(() => {
    progress.clear()
    return Output.notice(`stopped at ${progress.describe()}.\n  What was downloaded is kept: \`${again}\` continues.`)
  })
  yield* store.pull(model, { name }).pipe(
    Stream.runForEach((event) => {
      if (json) return Output.writeLine(`${JSON.stringify(event)}\n`)
      progress.tell(event)
      return event.type === "done" ? written(event.model, flags, event.fresh) : Effect.void
    }),
    Effect.tapError(() => Effect.sync(() => progress.clear())),
    Effect.onInterrupt(() => whatIsLeft)
  )
})

/** The models that are listed: an error of the folder is reported, and the servers are still listed. */
export const list = Effect.gen(function* () {
  const store = yield* ModelStore
  return yield* Effect.catchAll(store.list, ({ message }) =>
    Effect.as(Output.notice(message), [] as ReadonlyArray<StoredModel>)
  )
})

/** The model of this machine that a name means, if there is one. */
export const find = (name: string) =>
  Effect.flatMap(ModelStore, (store) =>
    Effect.catchTag(store.find(name), "InvalidModelReference", () => Effect.succeed(Option.none<StoredModel>()))
  )

/** Removes the model of this machine that a name means; none where there is none. */
export const remove = (name: string) =>
  Effect.flatMap(ModelStore, (store) => store.remove(name)).pipe(
    Effect.as(true),
    Effect.catchTag("ModelNotStored", () => Effect.succeed(false)),
    Effect.catchTag("InvalidModelReference", (error) =>
      // Of several it must be said which.
      / may be /.test(error.reason) ? Effect.fail(error) : Effect.succeed(false)
    )
  )

/** The description of a model of this machine. */
export const facts = ({ addedAt, files, metadata, name, path, problem, size, source }: StoredModel) =>
  [
    ["Model", name],
    ["Servers", thisMachine],
    ["Problem", problem],
    ["Size", Units.bytes(size)],
    ["Architecture", metadata.architecture],
    ["Parameters", metadata.parameters === undefined ? undefined : parameterSize(metadata.parameters)],
    ["Quantization", metadata.quantisation],
    ["Context length", metadata.contextLength === undefined ? undefined : String(metadata.contextLength)],
    ["Embedding length", metadata.embeddingLength === undefined ? undefined : String(metadata.embeddingLength)],
    ["Chat template", metadata.chatTemplate ? "yes" : "no"],
    ["Licence", metadata.licence],
    ["File", files.length > 1 ? `${path} and ${files.length - 1} more` : path],
    ["Source", source === path ? undefined : source],
    ["Added", addedAt === 0 ? undefined : new Date(addedAt).toISOString()]
  ] as const
