/** What a command of the interactive chat is, and how a line names one. */
import type * as FileSystem from "@effect/platform/FileSystem"
import type * as Effect from "effect/Effect"
import type { ModelSelection } from "../../../ModelSelection.js"
import type { Registry } from "../../../Registry.js"
import type { Sessions } from "../../../Sessions.js"
import type { CurrentSettings } from "../../../Settings.js"
import type { Conversation } from "./conversation.js"

/** What a command may use. */
export type Services = CurrentSettings | FileSystem.FileSystem | ModelSelection | Registry | Sessions

export interface Command {
  /** Without the slash. */
  readonly name: string
  readonly aliases?: ReadonlyArray<string>
  /** What it takes: `NAME`, or `[NAME]` if it may be left out; nothing if it is not given. */
  readonly takes?: string
  readonly about: string
  /** What the last of these words may be completed to. */
  readonly complete?: (
    words: ReadonlyArray<string>,
    conversation: Conversation
  ) => Effect.Effect<ReadonlyArray<string>, Error, Services>
  /** What is to follow it is left in the conversation. */
  readonly run: (
    argument: string,
    conversation: Conversation,
    print: (text: string) => Effect.Effect<void>
  ) => Effect.Effect<void, Error, Services>
}

/** A line that begins with a slash and a letter is a command; with a space before it, it is a question. */
export const split = (line: string): { readonly name: string; readonly argument: string } | undefined => {
  const match = /^\/([\p{L}?]\S*)\s*(.*)$/su.exec(line)
  return match === null ? undefined : { name: match[1] ?? "", argument: (match[2] ?? "").trim() }
}
