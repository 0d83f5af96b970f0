/** A folder of registry files: read within bounds, changed by one process at a time, each file whole or not at all. */
import {
  copyFile,
  mkdir,
  open,
  readdir,
  readFile as readText,
  realpath,
  rename,
  rm,
  stat,
  unlink
} from "node:fs/promises"
import { basename, dirname, join } from "node:path"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as BoundedFile from "../../internal/boundedFile.js"
import { type PendingChange, parsePending, pendingName, stagedName } from "../../registry/pendingChange.js"
import type { PresentFile } from "../../registry/pipeline/plan.js"
import { CommandFailed } from "../errors.js"

/** A larger file is not a registry file, in bytes. */
export const maxFileBytes = 32 * 1024 * 1024

/** So many backups are kept; older ones are deleted. */
const maxBackups = 10

/** So old is a lock that a process left behind, and so long another process is waited for, in milliseconds. */
const stale = 5_000
const patience = 20_000

const isMissing = (error: unknown): boolean => error instanceof Error && "code" in error && error.code === "ENOENT"

const attempt = <A>(what: string, run: () => Promise<A>): Effect.Effect<A, CommandFailed> =>
  Effect.tryPromise({
    try: run,
    catch: (error) =>
      new CommandFailed({ message: `${what}: ${error instanceof Error ? error.message : String(error)}` })
  })

// =============================================================================
// Reading
// =============================================================================

/** The text of a file of at most 32 MiB; `pipes` allows those of the shell, too. */
export const readFile = (path: string, pipes = false): Effect.Effect<string, CommandFailed, FileSystem.FileSystem> =>
  Effect.flatMap(FileSystem.FileSystem, (fs) =>
    Effect.mapError(
      BoundedFile.readText(fs, path, maxFileBytes, pipes),
      ({ message }) => new CommandFailed({ message: `${path} cannot be read: ${message}` })
    )
  )

/** The text of a registry file: the new one, where a change is still to be brought to its end. */
const readCurrent = Effect.fnUntraced(function* (folder: string, name: string, pending: PendingChange | undefined) {
  const path = join(folder, name)
  if (pending?.write.includes(name) === true) {
    const { real } = yield* attempt(`${path} cannot be read`, () => targetOf(path))
    const staged = yield* Effect.option(readFile(stagedOf(real)))
    if (Option.isSome(staged)) return staged.value
  }
  return yield* readFile(path)
})

/** The `*.json` files of a folder, by name; `undefined` if there is no such folder. */
export const readFolder = Effect.fnUntraced(function* (folder: string) {
  const names = yield* attempt(`${folder} cannot be read`, () =>
    readdir(folder).catch((error) => {
      if (isMissing(error)) return undefined
      throw error
    })
  )
  if (names === undefined) return undefined
  const pending = yield* attempt(`${folder} cannot be read`, () => pendingIn(folder))
  const all = pending === undefined ? names : [...new Set([...names, ...pending.write])]
  const files = all
    .filter((name) => name.toLowerCase().endsWith(".json") && pending?.remove.includes(name) !== true)
    .sort()
  return yield* Effect.forEach(
    files,
    (name) => Effect.map(readCurrent(folder, name, pending), (text): PresentFile => ({ name, text })),
    { concurrency: 8 }
  )
})

// =============================================================================
// Writing
// =============================================================================

/** What is written to a folder reaches the disk only with the folder itself; not every system can do that. */
const syncFolder = async (folder: string): Promise<void> => {
  const handle = await open(folder, "r").catch(() => undefined)
  if (handle === undefined) return
  try {
    await handle.sync().catch(() => {})
  } finally {
    await handle.close()
  }
}

const temporary = /^\..*\.(\d+|staged)\.tmp$/

/** A text on the disk. */
const writeThrough = async (path: string, text: string, mode: number): Promise<void> => {
  const handle = await open(path, "w", mode)
  try {
    await handle.writeFile(text)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Where a file really is, with its mode: a link stays one. */
const targetOf = async (path: string): Promise<{ readonly real: string; readonly mode: number }> => {
  const real = await realpath(path).catch(() => path)
  const mode = await stat(real).then(
    ({ mode }) => mode & 0o777,
    () => 0o644
  )
  return { real, mode }
}

const stagedOf = (real: string): string => join(dirname(real), stagedName(basename(real)))

/** What is about to change in a folder, if a process that made a change was killed. */
const pendingIn = async (folder: string): Promise<PendingChange | undefined> =>
  parsePending(await readText(join(folder, pendingName), "utf8").catch(() => ""))

/** Brings a change to its end, wherever it stopped. */
const finish = async (folder: string, { remove, write }: PendingChange): Promise<void> => {
  const ignoreMissing = (error: unknown) => {
    if (!isMissing(error)) throw error
  }
  for (const name of write) {
    const { real } = await targetOf(join(folder, name))
    await rename(stagedOf(real), real).catch(ignoreMissing)
  }
  for (const name of remove) await unlink(join(folder, name)).catch(ignoreMissing)
  await syncFolder(folder)
  await unlink(join(folder, pendingName)).catch(ignoreMissing)
  await syncFolder(folder)
}

/** Writes a file whole or not at all: beside it, to the disk, and then in its place. A link stays one. */
const replace = async (path: string, text: string): Promise<void> => {
  const { mode, real } = await targetOf(path)
  const written = join(dirname(real), `.${basename(real)}.${process.pid}.tmp`)
  try {
    await writeThrough(written, text, mode)
    await rename(written, real)
  } catch (error) {
    await rm(written, { force: true })
    throw error
  }
  await syncFolder(dirname(real))
}

/** The same, with its folder, and not to be interrupted. */
export const writeFile = (path: string, text: string): Effect.Effect<void, CommandFailed> =>
  Effect.uninterruptible(
    attempt(`${path} cannot be written`, async () => {
      await mkdir(dirname(path), { recursive: true })
      await replace(path, text)
    })
  )

/** Writes and removes files of a folder: all of it or nothing, also where the process is killed in the middle. */
export const change = (
  folder: string,
  write: ReadonlyArray<PresentFile>,
  remove: ReadonlyArray<string>
): Effect.Effect<void, CommandFailed> =>
  Effect.uninterruptible(
    attempt(`${folder} cannot be changed`, async () => {
      // Left behind by a process that ended in the middle; no other one is at work here.
      for (const name of await readdir(folder)) if (temporary.test(name)) await rm(join(folder, name), { force: true })
      for (const { name, text } of write) {
        const { mode, real } = await targetOf(join(folder, name))
        await writeThrough(stagedOf(real), text, mode)
        if (dirname(real) !== folder) await syncFolder(dirname(real))
      }
      const pending: PendingChange = { write: write.map(({ name }) => name), remove }
      await replace(join(folder, pendingName), JSON.stringify(pending))
      await finish(folder, pending)
    })
  )

/** Runs while no other process changes the folder, which is made where there is none. */
export const locked = <A, E, R>(folder: string, use: Effect.Effect<A, E, R>): Effect.Effect<A, E | CommandFailed, R> =>
  Effect.acquireUseRelease(
    attempt(`${folder} cannot be changed`, async () => {
      await mkdir(folder, { recursive: true })
      // A CommonJS module that is bundled has nothing but this.
      const { lock } = (
        (await import("proper-lockfile")) as unknown as { readonly default: typeof import("proper-lockfile") }
      ).default
      const pause = 50
      const retries = { retries: patience / pause, factor: 1, minTimeout: pause, maxTimeout: pause }
      const release = await lock(await realpath(folder), { realpath: false, stale, retries })
      const pending = await pendingIn(folder)
      if (pending !== undefined) await finish(folder, pending)
      return release
    }),
    () => use,
    // A process that took it for stale holds it now.
    (release) => Effect.promise(() => release().catch(() => {}))
  )

// =============================================================================
// Backups
// =============================================================================

const backupsOf = (folder: string): string => `${folder.replace(/\/+$/, "")}.backup`

const backupName = /^\d{8}T\d{6}\.\d{3}Z(-\d+)?$/

/** The backups of a folder, the newest first: the times at which they were made. */
export const backups = (folder: string): Effect.Effect<ReadonlyArray<string>, CommandFailed> =>
  attempt(`${backupsOf(folder)} cannot be read`, () =>
    readdir(backupsOf(folder)).then(
      (names) =>
        names
          .filter((name) => backupName.test(name))
          .sort()
          .reverse(),
      (error) => {
        if (isMissing(error)) return []
        throw error
      }
    )
  )

/** Where a backup is, if there is one of that name. */
export const backupPath = (folder: string, name: string): string => join(backupsOf(folder), name)

/** Copies the registry files of a folder into a new backup, and returns its path; `undefined` if there are none. */
export const backUp = (folder: string, now: Date): Effect.Effect<string | undefined, CommandFailed> =>
  Effect.uninterruptible(
    attempt(`${folder} cannot be backed up`, async () => {
      const names = (await readdir(folder)).filter((name) => name.toLowerCase().endsWith(".json"))
      if (names.length === 0) return undefined
      const all = backupsOf(folder)
      await mkdir(all, { recursive: true })
      const present = await readdir(all)
      const stamp = now.toISOString().replace(/[-:]/g, "")
      let name = stamp
      for (let i = 1; present.includes(name); i++) name = `${stamp}-${i}`
      const unfinished = join(all, `.${name}.${process.pid}.tmp`)
      await mkdir(unfinished)
      for (const file of names) {
        await copyFile(join(folder, file), join(unfinished, file))
        const handle = await open(join(unfinished, file), "r+")
        await handle.sync().finally(() => handle.close())
      }
      await syncFolder(unfinished)
      await rename(unfinished, join(all, name))
      await syncFolder(all)
      const old = [...present.filter((one) => backupName.test(one)), name].sort().reverse().slice(maxBackups)
      const left = present.filter((one) => temporary.test(one))
      for (const one of [...old, ...left]) await rm(join(all, one), { recursive: true, force: true })
      return join(all, name)
    })
  )
