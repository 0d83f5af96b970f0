/** Commands about conversations. */
import * as Effect from "effect/Effect"
import * as Message from "../../../Message.js"
import * as Sessions from "../../../Sessions.js"
import { CommandFailed } from "../../errors.js"
import * as Output from "../../output.js"
import * as Table from "../../table.js"
import * as Image from "../imageFile.js"
import type { Command } from "./command.js"
import { begin, type Conversation, putBack, switchTo, takeBack } from "./conversation.js"
import * as Paths from "./paths.js"
import * as Transcript from "./transcript.js"

const listed = Effect.map(Sessions.list(), (all) => all.filter(({ messages }) => messages > 0))

export const list: Command = {
  name: "list",
  about: "List the conversations that are kept, the one that was used last first.",
  run: Effect.fnUntraced(function* (_, { id: current }, print) {
    const all = yield* listed
    if (all.length === 0) return yield* print("no conversation is kept")
    const rows = all.map(({ id, messages, opening = "-", usedAt }) => [
      `${id === current ? "* " : ""}${id}`,
      new Date(usedAt).toISOString().replace(/\.\d+Z$/, "Z"),
      String(messages),
      opening
    ])
    const table = Table.table(["ID", "Last used", "Messages", "Begins with"], rows, "Begins with")
    yield* print(Output.withoutEscapes(table).trimEnd())
  })
}

export const save: Command = {
  name: "save",
  takes: "[FILE]",
  about: "Write the conversation to a new file: Markdown if it ends with .md, else JSON that /load reads.",
  complete: (words) => Paths.complete(words.at(-1) ?? ""),
  run: Effect.fnUntraced(function* (file, { id }, print) {
    const messages = yield* Sessions.history(id)
    if (messages.length === 0) return yield* new CommandFailed({ message: "nothing was said yet" })
    if (file === "") return yield* print(`it is kept as ${id}: /load ${id}, or aicortex chat --session ${id}`)
    yield* Transcript.save(Transcript.pathOf(file), id, messages)
    yield* print(`saved to ${file}`)
  })
}

/** The only conversation whose id begins so. */
const named = Effect.fnUntraced(function* (name: string) {
  if (!/^[a-z0-9-]+$/.test(name)) return undefined
  const sessions = yield* Sessions.Sessions
  const exact = yield* Effect.option(sessions.resume(name))
  if (exact._tag === "Some") return name
  const found = (yield* listed).filter(({ id }) => id.startsWith(name))
  return found.length === 1 ? found[0]?.id : undefined
})

/** A conversation in one line. */
export const describe = Effect.fnUntraced(function* (id: string) {
  const messages = yield* Sessions.history(id)
  const first = messages.find(({ role }) => role === "user")
  const opening = first === undefined ? "" : Message.text(first).replace(/\s+/g, " ").slice(0, 60)
  return `conversation ${id}, ${messages.length} messages${opening === "" ? "" : `: ${opening}`}`
})

export const load: Command = {
  name: "load",
  takes: "ID|FILE",
  about: "Go on with a conversation, by its id or the beginning of it, or with a copy of a saved file.",
  complete: (words) =>
    Effect.zipWith(listed, Paths.complete(words.at(-1) ?? ""), (all, files) => [...all.map(({ id }) => id), ...files]),
  run: Effect.fnUntraced(function* (name, conversation, print) {
    if (name === "") return yield* new CommandFailed({ message: "/load needs an id or a file; see /list" })
    const id =
      (yield* named(name)) ?? (yield* begin(conversation.begun, yield* Transcript.load(Transcript.pathOf(name))))
    yield* switchTo(conversation, id)
    yield* print(yield* describe(id))
  })
}

export const fresh: Command = {
  name: "new",
  about: "Begin another conversation; this one is kept.",
  run: Effect.fnUntraced(function* (_, conversation, print) {
    yield* switchTo(conversation, yield* begin(conversation.begun))
    yield* print("a new conversation")
  })
}

export const clear: Command = {
  name: "clear",
  aliases: ["reset"],
  about: "Forget what was said in this conversation.",
  run: Effect.fnUntraced(function* (_, conversation, print) {
    yield* Sessions.reset(conversation.id)
    yield* switchTo(conversation, conversation.id)
    yield* print("what was said is forgotten")
  })
}

export const retry: Command = {
  name: "retry",
  about: "Ask the last question again, instead of its answer.",
  run: Effect.fnUntraced(function* (_, conversation) {
    const { failed, id } = conversation
    if (failed !== undefined) {
      conversation.next = { type: "ask", question: failed, failed: Effect.void }
      return
    }
    const { question, removed } = yield* takeBack(id)
    conversation.next = { type: "ask", question, failed: putBack(id, removed) }
  })
}

const sizeOf = (bytes: number): string => (bytes < 1024 ? `${bytes} bytes` : `${Math.round(bytes / 1024)} KiB`)

const addImage = Effect.fnUntraced(function* (file: string, conversation: Conversation) {
  const { bytes, mediaType, name, part } = yield* Image.read(Transcript.pathOf(file))
  conversation.images = [...conversation.images, part]
  return `${name} (${mediaType}, ${sizeOf(bytes)}) goes with the next question`
})

export const image: Command = {
  name: "image",
  takes: "[FILE]",
  about: "Add an image to the next question; - removes those that were added.",
  complete: (words) => Paths.complete(words.at(-1) ?? ""),
  run: Effect.fnUntraced(function* (argument, conversation, print) {
    const file = argument.replace(/^(["'])(.*)\1$/, "$2")
    if (file !== "" && file !== "-") return yield* print(yield* addImage(file, conversation))
    if (file === "-") conversation.images = []
    yield* print(`images of the next question: ${conversation.images.length}`)
  })
}
