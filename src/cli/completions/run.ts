/** Runs `aicortex __complete`, which completion scripts ask. */
import * as Effect from "effect/Effect"
import type { Shape } from "../commandLine.js"
import * as Output from "../output.js"
import * as Table from "../table.js"
import { type Completion, candidates } from "./candidates.js"

/** In one line, for a list beside the prompt. */
const shortened = (text: string): string => Table.cut(Output.withoutControls(text).replace(/\s+/g, " "), 80)

export const run = Effect.fnUntraced(function* (root: Shape, words: ReadonlyArray<string>) {
  const current = words.at(-1) ?? ""
  const { kind, known, prefix } = candidates(root, words)
  const values =
    kind === undefined || kind === "files"
      ? []
      : yield* Effect.flatMap(
          Effect.promise(() => import("./values.js")),
          ({ valuesOf }) => valuesOf(kind)
          // What is known is still offered: there is no place for an error message.
        ).pipe(Effect.catchAllCause(() => Effect.succeed<ReadonlyArray<Completion>>([])))
  const all = new Map<string, string>()
  for (const [value, about] of [
    ...known,
    ...values.map(([value, about]): Completion => [`${prefix}${value}`, about])
  ]) {
    // A value with white space would be several words.
    if (value.startsWith(current) && !/\s/.test(value) && !all.has(value)) all.set(value, about)
  }
  const lines = [...all].map(([value, about]) => `${value}\t${shortened(about)}\n`)
  yield* Output.write(lines.join("") + (kind === "files" ? ":files\n" : ""))
})
