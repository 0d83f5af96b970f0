/**
 * Standard output is for answers, standard error for everything about them. When not on a terminal, neither contains
 * control sequences.
 */

import * as Effect from "effect/Effect"
import { CommandFailed, OutputClosed } from "./errors.js"
import { dim } from "./styles.js"

export { bold, dim, green, isTerminal, red, supportsColor, yellow } from "./styles.js"

// In addition to control characters: what reverses the direction of text (bidirectional overrides and isolates), and
// tags, which no terminal shows.
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const controls = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]|\u{e0001}|[\u{e0020}-\u{e007f}]/gu

/** Removes control characters: output of servers and models must not control the terminal. */
export const withoutControls = (text: string): string => text.replace(controls, "")

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const sequences = /\u001b\[[0-9;]*[A-Za-z]/g

/** Removes colours. */
export const withoutEscapes = (text: string): string => text.replace(sequences, "")

// =============================================================================
// Writing
// =============================================================================

const isClosed = (error: Error): boolean =>
  "code" in error && (error.code === "EPIPE" || error.code === "ERR_STREAM_DESTROYED" || error.code === "ECONNRESET")

/** Standard output cannot be written, or its reader is gone. */
export type WriteError = OutputClosed | CommandFailed

/** Writes to standard output, waiting for its reader. */
export const write = (text: string): Effect.Effect<void, WriteError> =>
  Effect.async((resume) => {
    process.stdout.write(text, (error) => {
      if (error === undefined || error === null) resume(Effect.void)
      else if (isClosed(error)) resume(Effect.fail(new OutputClosed()))
      else resume(Effect.fail(new CommandFailed({ message: `standard output cannot be written: ${error.message}` })))
    })
  })

/** Writes a model's text: unchanged, but without terminal control characters. */
export const writeLine = (text: string): Effect.Effect<void, WriteError> =>
  write(process.stdout.isTTY === true ? withoutControls(text) : text)

export const writeJson = (value: unknown): Effect.Effect<void, WriteError> =>
  writeLine(`${JSON.stringify(value, undefined, 2)}\n`)

/** One line on standard error. */
export const notice = (message: string): Effect.Effect<void> =>
  Effect.sync(() => void process.stderr.write(`aicortex: ${withoutControls(message)}\n`))

/** One dimmed line on standard error. */
export const dimNotice = (message: string): Effect.Effect<void> =>
  Effect.sync(() => void process.stderr.write(`${dim(`aicortex: ${withoutControls(message)}`, process.stderr)}\n`))

/** Dimmed text on standard error, without a line break. */
export const writeDim = (text: string): Effect.Effect<void> =>
  Effect.sync(() => void process.stderr.write(dim(withoutControls(text), process.stderr)))
