/** A conversation as a file. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Message from "../../../Message.js"
import { messagesIn } from "../../conversationFile.js"
import { CommandFailed } from "../../errors.js"

const names: { readonly [role: string]: string } = { user: "You", assistant: "Model", tool: "Tool" }

/** As Markdown, for people. */
export const markdown = (messages: ReadonlyArray<Message.Message>): string =>
  messages
    .map((message) => {
      const images = Message.images(message).length
      const parts = [Message.text(message), ...(images === 0 ? [] : [`[images: ${images}]`])]
      return `**${names[message.role] ?? message.role}:** ${parts.filter((part) => part !== "").join("\n\n")}\n`
    })
    .join("\n")

/** Where `~` is the home folder. */
export const pathOf = (name: string): string =>
  name === "~" || name.startsWith("~/") ? `${process.env["HOME"] ?? "~"}${name.slice(1)}` : name

/** Writes a new file that only the user can read: Markdown if it is named so, else JSON that can be loaded. */
export const save = Effect.fnUntraced(function* (file: string, id: string, messages: ReadonlyArray<Message.Message>) {
  const fs = yield* FileSystem.FileSystem
  const text = file.endsWith(".md") ? markdown(messages) : `${JSON.stringify({ id, messages }, undefined, 2)}\n`
  yield* Effect.mapError(fs.writeFileString(file, text, { flag: "wx", mode: 0o600 }), (error) => {
    const exists = error._tag === "SystemError" && error.reason === "AlreadyExists"
    return new CommandFailed({
      message: exists ? `${file} exists already; name another file` : `${file} cannot be written: ${error.message}`
    })
  })
})

/** The messages of a file that was saved as JSON. */
export const load = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  const text = yield* Effect.mapError(fs.readFileString(file), (error) => {
    const missing = error._tag === "SystemError" && error.reason === "NotFound"
    return new CommandFailed({
      message: missing ? `there is no conversation and no file '${file}'` : `${file} cannot be read: ${error.message}`
    })
  })
  return yield* messagesIn(text, file)
})
