/** Runs `aicortex sessions`. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { InvalidRequest } from "../../Errors.js"
import * as Message from "../../Message.js"
import * as Sessions from "../../Sessions.js"
import { messagesIn } from "../conversationFile.js"
import { CommandFailed, refused, UsageError } from "../errors.js"
import { spanOf } from "../keys/flags.js"
import * as Fleet from "../knownLayer.js"
import * as Output from "../output.js"
import * as Stdin from "../stdin.js"
import * as Table from "../table.js"
import * as Flags from "./filters.js"

const timeOf = (milliseconds: number): string => new Date(milliseconds).toISOString()

const iso = (text: string): string => text.replace(/\.\d+Z$/, "Z")

const summaryJson = (one: Sessions.Summary): object => ({
  id: one.id,
  title: one.title ?? null,
  titled: one.titled,
  metadata: one.metadata,
  created_at: timeOf(one.createdAt),
  used_at: timeOf(one.usedAt),
  messages: one.messages,
  opening: one.opening ?? null
})

const table = (all: ReadonlyArray<Sessions.Summary>): string => {
  const rows = all.map(({ id, messages, title = "-", usedAt }) => [id, iso(timeOf(usedAt)), String(messages), title])
  return Table.table(["ID", "Last used", "Messages", "Title"], rows, "Title")
}

const next = (cursor: string | undefined) =>
  cursor === undefined ? Effect.void : Output.notice(`there are more: --cursor ${cursor}`)

/** Where the library refuses an option, it is the flag of that name that is wrong. */
const refusing = <A, E, R>(command: string, effect: Effect.Effect<A, E | InvalidRequest, R>, value?: number) =>
  Effect.catchIf(
    effect,
    (error): error is Extract<E | InvalidRequest, InvalidRequest> => error instanceof InvalidRequest,
    (error) => Effect.fail(refused(command, error, value))
  )

export const list = (flags: Flags.ListFlags & { readonly json: boolean }) =>
  Effect.gen(function* () {
    const options = yield* Flags.listOptions("sessions list", flags)
    const page = yield* refusing("sessions list", Sessions.page(options), flags.limit)
    if (flags.json) yield* Output.writeJson(page.items.map(summaryJson))
    else if (page.items.length > 0) yield* Output.write(table(page.items))
    else if (Flags.isUnfiltered(flags)) {
      return yield* Output.notice("no conversation is kept; make one with `aicortex sessions create`")
    } else return yield* Output.notice("there is no such conversation")
    yield* next(page.next)
  }).pipe(Effect.provide(Fleet.readerLayer))

export const search = (words: string, flags: Flags.ListFlags & { readonly json: boolean }) =>
  Effect.gen(function* () {
    const options = yield* Flags.listOptions("sessions search", flags)
    const page = yield* refusing("sessions search", Sessions.search(words, options), flags.limit)
    if (flags.json) yield* Output.writeJson(page.items.map(({ at, ...hit }) => ({ ...hit, at: timeOf(at) })))
    else if (page.items.length === 0) return yield* Output.notice("nothing was found")
    else {
      const rows = page.items.map(({ at, excerpt, id, turn }) => [id, String(turn), iso(timeOf(at)), excerpt])
      yield* Output.write(Table.table(["ID", "Turn", "Said", "Text"], rows, "Text"))
    }
    yield* next(page.next)
  }).pipe(Effect.provide(Fleet.readerLayer))

const readInput = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  return yield* file === "-"
    ? Stdin.all
    : Effect.mapError(fs.readFileString(file), (error) => {
        const missing = error._tag === "SystemError" && error.reason === "NotFound"
        return new CommandFailed({
          message: missing ? `${file} does not exist` : `${file} cannot be read: ${error.message}`
        })
      })
})

const readMessages = Effect.fnUntraced(function* (file: string) {
  const text = yield* readInput(file)
  return yield* messagesIn(text, file === "-" ? "standard input" : file, { mayBeEmpty: true })
})

export const create = (from: string | undefined) =>
  Effect.gen(function* () {
    const messages = from === undefined ? [] : yield* readMessages(from)
    const { id } = yield* Sessions.create({ messages })
    yield* Output.write(`${id}\n`)
  }).pipe(Effect.provide(Fleet.layer))

const line = (message: Message.Message): string => {
  const images = Message.images(message).length
  const calls = message.role === "assistant" ? (message.toolCalls ?? []).map(({ name }) => `[calls ${name}]`) : []
  const parts = [Message.text(message), ...calls, ...(images === 0 ? [] : [`[images: ${images}]`])]
  return `${message.role}: ${parts.filter((part) => part !== "").join(" ")}\n`
}

export const show = (id: string, json: boolean) =>
  Effect.gen(function* () {
    const messages = yield* Sessions.history(id)
    yield* json ? Output.writeJson({ id, messages }) : Output.writeLine(messages.map(line).join(""))
  }).pipe(Effect.provide(Fleet.readerLayer))

export const reset = (id: string) => Effect.provide(Sessions.reset(id), Fleet.readerLayer)

export const remove = (ids: ReadonlyArray<string>) =>
  Effect.forEach(ids, (id) => Sessions.remove(id), { discard: true }).pipe(Effect.provide(Fleet.readerLayer))

export const title = (id: string, given: string | undefined, derived: boolean) =>
  Effect.gen(function* () {
    if (derived && given !== undefined) {
      return yield* new UsageError({ message: "--derived: there is a title too", command: ["sessions", "title"] })
    }
    if (derived || given !== undefined) {
      return yield* refusing("sessions title", Sessions.update(id, { title: derived ? null : given }))
    }
    const { title = "" } = yield* Sessions.details(id)
    yield* Output.write(`${title}\n`)
  }).pipe(Effect.provide(Fleet.readerLayer))

export const copy = (id: string, options: Sessions.CopyOptions) =>
  Effect.flatMap(refusing("sessions copy", Sessions.copy(id, options)), (made) => Output.write(`${made.id}\n`)).pipe(
    Effect.provide(Fleet.readerLayer)
  )

export const exported = (id: string | undefined, flags: Flags.FilterFlags & { readonly markdown: boolean }) =>
  Effect.gen(function* () {
    const wrong = (message: string) => new UsageError({ message, command: ["sessions", "export"] })
    if (id === undefined) {
      if (flags.markdown) return yield* wrong("--markdown needs the id of one conversation")
      const options = yield* Flags.filter("sessions export", flags)
      const all = Stream.runForEach(Sessions.exportAll(options), (one) => Output.write(`${JSON.stringify(one)}\n`))
      return yield* refusing("sessions export", all)
    }
    if (!Flags.isUnfiltered(flags)) return yield* wrong("ID: filters are for all conversations")
    const one = yield* Sessions.exportSession(id)
    yield* flags.markdown ? Output.writeLine(Sessions.markdown(one)) : Output.writeJson(one)
  }).pipe(Effect.provide(Fleet.readerLayer))

interface ImportFlags {
  readonly newIds: boolean
  readonly localOnly: boolean
  readonly dryRun: boolean
  readonly json: boolean
}

export const imported = (file: string, { dryRun, json, localOnly, newIds }: ImportFlags) =>
  Effect.gen(function* () {
    const text = yield* readInput(file)
    const options = { ids: newIds ? "new" : "keep", private: localOnly, dryRun } as const
    const { refused, taken } = yield* Effect.mapError(
      Sessions.importAll(text, options),
      ({ reason }) =>
        new CommandFailed({ message: `${file === "-" ? "standard input" : file} holds no conversations: it ${reason}` })
    )
    if (json) {
      yield* Output.writeJson({
        taken: taken.map(({ at, from = null, id = null, messages }) => ({ at, id, from, messages })),
        refused: refused.map(({ at, from = null, reason }) => ({ at, from, reason }))
      })
    } else {
      for (const { from, id = "a new id", messages } of taken) {
        const was = from === undefined || from === id ? "" : `  was ${from}`
        yield* Output.write(`${id}  ${messages} messages${was}\n`)
      }
    }
    if (refused.length > 0) {
      const lines = refused.map(({ at, from, reason }) => `  ${at}${from === undefined ? "" : ` (${from})`}: ${reason}`)
      const words = `${refused.length} of ${taken.length + refused.length} conversations ${dryRun ? "would be" : "were"} refused`
      return yield* new CommandFailed({ message: `${words}:\n${lines.join("\n")}` })
    }
  }).pipe(Effect.provide(Fleet.layer))

interface PruneFlags extends Flags.FilterFlags {
  readonly olderThan: string | undefined
  readonly dryRun: boolean
  readonly json: boolean
}

export const prune = ({ dryRun, json, olderThan: given, ...flags }: PruneFlags) =>
  Effect.gen(function* () {
    const span = given === undefined ? undefined : spanOf(given)
    if (span === undefined || span < 0) {
      const message =
        given === undefined ? "give --older-than DURATION" : `--older-than must be a time such as 90d, not '${given}'`
      return yield* new UsageError({ message, command: ["sessions", "prune"] })
    }
    const options = yield* Flags.filter("sessions prune", flags)
    const gone = yield* refusing("sessions prune", Sessions.prune({ ...options, olderThan: span, dryRun }))
    if (json) return yield* Output.writeJson(gone.map(summaryJson))
    if (gone.length > 0) yield* Output.write(table(gone))
    yield* Output.notice(`${gone.length} conversations ${dryRun ? "would be" : "were"} deleted`)
  }).pipe(Effect.provide(Fleet.readerLayer))
