/** Runs `aicortex logs`. */
import { closeSync, openSync, readFileSync, readSync, statSync } from "node:fs"
import * as Effect from "effect/Effect"
import { logOf, paths } from "../../supervisor/paths.js"
import { CommandFailed } from "../errors.js"
import * as Output from "../output.js"

export interface Flags {
  readonly models: ReadonlyArray<string>
  readonly follow: boolean
  readonly lines: number | undefined
}

/** Between two looks at what was added, in milliseconds. */
const interval = 200

const defaultLines = 80

const sizeOf = (file: string): number => statSync(file, { throwIfNoEntry: false })?.size ?? 0

const readFrom = (file: string, at: number, to: number): string => {
  const open = openSync(file, "r")
  try {
    const bytes = Buffer.alloc(to - at)
    return bytes.toString("utf8", 0, readSync(open, bytes, 0, bytes.length, at))
  } finally {
    closeSync(open)
  }
}

export const run = Effect.fnUntraced(function* ({ follow, lines = defaultLines, models }: Flags) {
  const at = yield* paths
  const [model] = models
  const file =
    model === undefined ? at.log : logOf(at, model.replace(/^.*\/(?=[^/]*\.gguf$)/i, "").replace(/\.gguf$/i, ""))
  const text = yield* Effect.try({
    try: () => readFileSync(file, "utf8"),
    catch: () =>
      new CommandFailed({
        message:
          model === undefined ? "there is no log yet" : `there is no log of '${model}': it never ran on this machine`
      })
  })
  let size = Buffer.byteLength(text)
  const all = text.split("\n")
  if (all.at(-1) === "") all.pop()
  const last = lines <= 0 ? [] : all.slice(-lines)
  if (last.length > 0) yield* Output.writeLine(`${last.join("\n")}\n`)
  while (follow) {
    yield* Effect.sleep(interval)
    const now = sizeOf(file)
    // It was rotated.
    if (now < size) size = 0
    if (now > size) yield* Output.writeLine(readFrom(file, size, now))
    size = now
  }
})
