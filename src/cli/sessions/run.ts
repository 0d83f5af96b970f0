/** Runs `aicortex sessions`. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as ChatRequest from "../../ChatRequest.js"
import * as Message from "../../Message.js"
import * as Sessions from "../../Sessions.js"
import { CommandFailed, refused } from "../errors.js"
import * as Fleet from "../fleetLayer.js"
import * as Output from "../output.js"
import * as Stdin from "../stdin.js"
import * as Table from "../table.js"

const timeOf = (milliseconds: number): string => new Date(milliseconds).toISOString()

export const list = ({ json, limit }: { readonly json: boolean; readonly limit: number | undefined }) =>
  Effect.gen(function* () {
    const all = yield* Effect.catchTag(Sessions.list({ limit }), "InvalidRequest", (error) =>
      Effect.fail(refused("sessions list", error, limit))
    )
    if (json) {
      return yield* Output.writeJson(
        all.map(({ id, messages, opening, usedAt }) => ({
          id,
          used_at: timeOf(usedAt),
          messages,
          opening: opening ?? null
        }))
      )
    }
    if (all.length === 0)
      return yield* Output.notice("no conversation is kept; make one with `aicortex sessions create`")
    const rows = all.map(({ id, messages, opening = "-", usedAt }) => [
      id,
      timeOf(usedAt).replace(/\.\d+Z$/, "Z"),
      String(messages),
      opening
    ])
    yield* Output.write(Table.table(["ID", "Last used", "Messages", "Begins with"], rows, "Begins with"))
  }).pipe(Effect.provide(Fleet.layer))

const readMessages = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  const named = file === "-" ? "standard input" : file
  const text = yield* file === "-"
    ? Stdin.all
    : Effect.mapError(fs.readFileString(file), (error) => {
        const missing = error._tag === "SystemError" && error.reason === "NotFound"
        return new CommandFailed({
          message: missing ? `${file} does not exist` : `${file} cannot be read: ${error.message}`
        })
      })
  const value = yield* Either.try({
    try: (): unknown => JSON.parse(text.replace(/^\uFEFF/, "")),
    catch: () => new CommandFailed({ message: `${named} is not JSON` })
  })
  const messages =
    typeof value === "object" && value !== null && "messages" in value ? (value.messages as unknown) : value
  if (Array.isArray(messages) && messages.length === 0) return []
  return yield* Either.mapLeft(
    ChatRequest.decodeMessages(messages),
    ({ field, reason }) => new CommandFailed({ message: `${named} holds no conversation: ${field}: ${reason}` })
  )
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
  }).pipe(Effect.provide(Fleet.layer))

export const reset = (id: string) => Effect.provide(Sessions.reset(id), Fleet.layer)

export const remove = (ids: ReadonlyArray<string>) =>
  Effect.forEach(ids, (id) => Sessions.remove(id), { discard: true }).pipe(Effect.provide(Fleet.layer))
