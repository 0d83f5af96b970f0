/**
 * What was typed in earlier conversations: a file of JSON strings, one a line, that only its user can read. Several
 * processes may append to it.
 */
import { appendFile, chmod, readFile, rename, rm, writeFile } from "node:fs/promises"
import { dirname } from "node:path"
import * as Effect from "effect/Effect"
import { makeFolderSync } from "../../../internal/makeFolderSync.js"
import { CommandFailed } from "../../errors.js"

/** So many messages are kept. */
export const maxEntries = 1_000

/** A longer message is not kept, in characters: it is no line that someone types again. */
export const maxLength = 16_384

/** The file may grow to so many times its bound before it is rewritten. */
const slack = 2

export interface History {
  /** The oldest first. */
  readonly entries: ReadonlyArray<string>
  /** Adds a message that differs from the last one. */
  readonly add: (text: string) => Effect.Effect<void, CommandFailed>
}

const isMissing = (error: unknown): boolean => error instanceof Error && "code" in error && error.code === "ENOENT"

const parse = (line: string): ReadonlyArray<string> => {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === "string" ? [value] : []
  } catch {
    // Another process was interrupted while it wrote.
    return []
  }
}

const lineOf = (text: string): string => `${JSON.stringify(text)}\n`

const attempt = <A>(file: string, what: string, task: () => Promise<A>): Effect.Effect<A, CommandFailed> =>
  Effect.tryPromise({
    try: task,
    catch: (cause) =>
      new CommandFailed({
        message: `the history ${file} cannot be ${what}: ${cause instanceof Error ? cause.message : String(cause)}`
      })
  })

const rewrite = async (file: string, entries: ReadonlyArray<string>): Promise<void> => {
  const temporary = `${file}.${process.pid}`
  try {
    await writeFile(temporary, entries.map(lineOf).join(""), { mode: 0o600 })
    await rename(temporary, file)
  } finally {
    await rm(temporary, { force: true })
  }
}

const load = async (file: string): Promise<Array<string>> => {
  let text: string
  try {
    text = await readFile(file, "utf8")
  } catch (error) {
    if (isMissing(error)) return []
    throw error
  }
  const lines = text.split("\n").filter((line) => line !== "")
  const entries = lines.slice(-maxEntries).flatMap(parse)
  if (lines.length > slack * maxEntries) await rewrite(file, entries)
  else await chmod(file, 0o600)
  return entries
}

/** A history that ends with the process. */
export const inMemory = (): History => make([], () => Effect.void)

const make = (entries: Array<string>, append: (text: string) => Effect.Effect<void, CommandFailed>): History => ({
  entries,
  add: (text) =>
    Effect.suspend(() => {
      if (text.trim() === "" || text.length > maxLength || entries.at(-1) === text) return Effect.void
      entries.push(text)
      if (entries.length > maxEntries) entries.shift()
      return append(text)
    })
})

/** The history of a file, which is made when something is added. */
export const open = (file: string): Effect.Effect<History, CommandFailed> =>
  Effect.map(
    attempt(file, "read", () => load(file)),
    (entries) =>
      make(entries, (text) =>
        attempt(file, "written", async () => {
          makeFolderSync(dirname(file), 0o700)
          await appendFile(file, lineOf(text), { mode: 0o600 })
        })
      )
  )
