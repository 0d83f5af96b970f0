/** Reads standard input. */

import { fstatSync } from "node:fs"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { CommandFailed } from "./errors.js"
import { notice } from "./output.js"

/** A silent socket is ignored after this many milliseconds. */
const socketTimeout = 300

/** After this many milliseconds of silence a message says what is being waited for. */
const silence = 5_000

type Kind = "terminal" | "stream" | "socket" | "none"

const kind = (): Kind => {
  if (process.stdin.isTTY === true) return "terminal"
  try {
    const stat = fstatSync(0)
    return stat.isFIFO() || stat.isFile() ? "stream" : stat.isSocket() ? "socket" : "none"
  } catch {
    return "none"
  }
}

/** Invalid UTF-8 is rejected: the model would silently get replacement characters. */
const decoded = (bytes: Buffer): Either.Either<string, CommandFailed> =>
  Either.try({
    try: () => new TextDecoder("utf-8", { fatal: true }).decode(bytes).replace(/\r?\n$/, ""),
    catch: () =>
      new CommandFailed({
        message: "standard input is not text in UTF-8: convert it first, such as with `iconv -t UTF-8`"
      })
  })

/** All of it, or `undefined` if nothing came within `timeout` milliseconds. */
const read = (timeout: number | undefined): Effect.Effect<string | undefined, CommandFailed> =>
  Effect.async((resume) => {
    const { stdin } = process
    const chunks: Array<Buffer> = []
    const timer =
      timeout === undefined
        ? stdin.isTTY === true
          ? undefined
          : setTimeout(() => Effect.runSync(notice("waiting for standard input…")), silence)
        : setTimeout(() => finish(Effect.succeed(undefined)), timeout)
    const onData = (chunk: Buffer) => {
      clearTimeout(timer)
      chunks.push(chunk)
    }
    const onEnd = () => finish(decoded(Buffer.concat(chunks)))
    const onError = (error: Error) =>
      finish(Effect.fail(new CommandFailed({ message: `standard input cannot be read: ${error.message}` })))
    const stop = () => {
      clearTimeout(timer)
      stdin.off("data", onData).off("end", onEnd).off("error", onError)
      stdin.pause()
      // A socket that stays open must not keep the process alive.
      stdin.unref?.()
    }
    const finish = (result: Effect.Effect<string | undefined, CommandFailed>) => {
      stop()
      resume(result)
    }
    stdin.on("data", onData).on("end", onEnd).on("error", onError)
    return Effect.sync(stop)
  })

/** All of standard input, without its last line break. */
export const all: Effect.Effect<string, CommandFailed> = Effect.suspend(() =>
  Effect.map(read(undefined), (text) => text ?? "")
)

/** All of standard input, or `undefined` if it is a terminal or absent. */
export const piped: Effect.Effect<string | undefined, CommandFailed> = Effect.suspend(() => {
  const what = kind()
  return what === "terminal" || what === "none" ? Effect.succeed(undefined) : all
})

/**
 * Input piped in next to a prompt. A pipe or file is read to its end. A socket, which a program gets when another one
 * spawns it, often stays open and silent: it is read only if something comes at once.
 */
export const withPrompt: Effect.Effect<string | undefined, CommandFailed> = Effect.suspend(() => {
  switch (kind()) {
    case "stream":
      return all
    case "socket":
      return read(socketTimeout)
    default:
      return Effect.succeed(undefined)
  }
})
