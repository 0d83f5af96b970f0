/** A folder of registry files: read within bounds, changed by one process at a time, each file whole or not at all. */
import type { PlatformError } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { RegistryFileFailed } from "../../errors/registry.js"
import * as BoundedFile from "../../internal/boundedFile.js"
import { makeFolder } from "../../internal/makeFolder.js"
import { StoreHost } from "../../modelStore/host.js"
import * as Lock from "../../modelStore/lock.js"
import { type PendingChange, parsePending, pendingName, stagedName } from "../pendingChange.js"
import type { PresentFile } from "./plan.js"

/** A larger file is not a registry file, in bytes. */
export const maxFileBytes = 32 * 1024 * 1024

/** How long this process waits for another one, in milliseconds. */
const maxWait = 20_000

const isMissing = (error: PlatformError): boolean => error._tag === "SystemError" && error.reason === "NotFound"

const encoder = new TextEncoder()

/** The same with the failure of a path. */
const about =
  (path: string, what: string) =>
  <A, R>(effect: Effect.Effect<A, PlatformError | RegistryFileFailed, R>): Effect.Effect<A, RegistryFileFailed, R> =>
    Effect.mapError(effect, (error) =>
      error._tag === "RegistryFileFailed"
        ? error
        : new RegistryFileFailed({ path, detail: `${what}: ${error.message}` })
    )

/** The names in a folder; `undefined` where there is none. */
const namesIn = Effect.fnUntraced(function* (folder: string) {
  const fs = yield* FileSystem.FileSystem
  return yield* Effect.catchIf(
    fs.readDirectory(folder),
    isMissing,
    (): Effect.Effect<ReadonlyArray<string> | undefined> => Effect.sync(() => undefined)
  )
})

const isJson = (name: string): boolean => name.toLowerCase().endsWith(".json")

// =============================================================================
// Reading
// =============================================================================

/** The text of a file of at most 32 MiB; `pipes` allows those of the shell, too. */
export const readFile = (
  path: string,
  pipes = false
): Effect.Effect<string, RegistryFileFailed, FileSystem.FileSystem> =>
  Effect.flatMap(FileSystem.FileSystem, (fs) =>
    about(path, "cannot be read")(BoundedFile.readText(fs, path, maxFileBytes, pipes))
  )

/** Where a file really is, with its mode: a link stays one. */
const targetOf = Effect.fnUntraced(function* (path: string) {
  const fs = yield* FileSystem.FileSystem
  const real = yield* Effect.orElseSucceed(fs.realPath(path), () => path)
  const mode = yield* Effect.match(fs.stat(real), { onSuccess: ({ mode }) => mode & 0o777, onFailure: () => 0o644 })
  return { real, mode }
})

const stagedOf = (path: Path.Path, real: string): string =>
  path.join(path.dirname(real), stagedName(path.basename(real)))

/** What is about to change in a folder, if a process that made a change was killed. */
const pendingIn = Effect.fnUntraced(function* (folder: string) {
  const [fs, path] = yield* Effect.all([FileSystem.FileSystem, Path.Path])
  return parsePending(yield* Effect.orElseSucceed(fs.readFileString(path.join(folder, pendingName)), () => ""))
})

/** The text of a registry file: the new one, where a change is still to be brought to its end. */
const readCurrent = Effect.fnUntraced(function* (folder: string, name: string, pending: PendingChange | undefined) {
  const path = yield* Path.Path
  const file = path.join(folder, name)
  if (pending?.write.includes(name) === true) {
    const { real } = yield* targetOf(file)
    const staged = yield* Effect.option(readFile(stagedOf(path, real)))
    if (Option.isSome(staged)) return staged.value
  }
  return yield* readFile(file)
})

/** The `*.json` files of a folder, by name; `undefined` if there is no such folder. */
export const readFolder = Effect.fnUntraced(function* (folder: string) {
  const names = yield* about(folder, "cannot be read")(namesIn(folder))
  if (names === undefined) return undefined
  const pending = yield* pendingIn(folder)
  const all = pending === undefined ? names : [...new Set([...names, ...pending.write])]
  const files = all.filter((name) => isJson(name) && pending?.remove.includes(name) !== true).sort()
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
const syncFolder = (folder: string) =>
  Effect.flatMap(FileSystem.FileSystem, (fs) =>
    Effect.ignore(Effect.scoped(Effect.flatMap(fs.open(folder, { flag: "r" }), ({ sync }) => sync)))
  )

const temporary = /^\..*\.(\d+|staged)\.tmp$/

/** A text on the disk. */
const writeThrough = Effect.fnUntraced(function* (path: string, text: string, mode: number) {
  const fs = yield* FileSystem.FileSystem
  const file = yield* fs.open(path, { flag: "w", mode })
  if (text !== "") yield* file.writeAll(encoder.encode(text))
  yield* file.sync
}, Effect.scoped)

/** Brings a change to its end, wherever it stopped. */
const finish = Effect.fnUntraced(function* (folder: string, { remove, write }: PendingChange) {
  const [fs, path] = yield* Effect.all([FileSystem.FileSystem, Path.Path])
  for (const name of write) {
    const { real } = yield* targetOf(path.join(folder, name))
    yield* Effect.catchIf(fs.rename(stagedOf(path, real), real), isMissing, () => Effect.void)
  }
  for (const name of remove) yield* fs.remove(path.join(folder, name), { force: true })
  yield* syncFolder(folder)
  yield* fs.remove(path.join(folder, pendingName), { force: true })
  yield* syncFolder(folder)
})

/** Writes a file whole or not at all: beside it, to the disk, and then in its place. A link stays one. */
const replace = Effect.fnUntraced(function* (path: string, text: string) {
  const [fs, paths, host] = yield* Effect.all([FileSystem.FileSystem, Path.Path, StoreHost])
  const { mode, real } = yield* targetOf(path)
  const written = paths.join(paths.dirname(real), `.${paths.basename(real)}.${host.self.pid}.tmp`)
  yield* writeThrough(written, text, mode).pipe(
    Effect.zipRight(fs.rename(written, real)),
    Effect.onError(() => Effect.ignore(fs.remove(written, { force: true })))
  )
  yield* syncFolder(paths.dirname(real))
})

/** The same, with its folder, and not to be interrupted. */
export const writeFile = Effect.fnUntraced(function* (path: string, text: string) {
  const paths = yield* Path.Path
  const written = Effect.zipRight(makeFolder(paths.dirname(path)), replace(path, text))
  yield* about(path, "cannot be written")(written)
}, Effect.uninterruptible)

const changeAll = Effect.fnUntraced(function* (
  folder: string,
  write: ReadonlyArray<PresentFile>,
  remove: ReadonlyArray<string>
) {
  const [fs, path] = yield* Effect.all([FileSystem.FileSystem, Path.Path])
  // Left behind by a process that ended in the middle; no other one is at work here.
  const left = (yield* fs.readDirectory(folder)).filter((name) => temporary.test(name))
  for (const name of left) yield* fs.remove(path.join(folder, name), { force: true })
  for (const { name, text } of write) {
    const { mode, real } = yield* targetOf(path.join(folder, name))
    yield* writeThrough(stagedOf(path, real), text, mode)
    if (path.dirname(real) !== folder) yield* syncFolder(path.dirname(real))
  }
  const pending: PendingChange = { write: write.map(({ name }) => name), remove }
  yield* replace(path.join(folder, pendingName), JSON.stringify(pending))
  yield* finish(folder, pending)
})

/** Writes and removes files of a folder: all of it or nothing, also where the process is killed in the middle. */
export const change = (folder: string, write: ReadonlyArray<PresentFile>, remove: ReadonlyArray<string>) =>
  Effect.uninterruptible(about(folder, "cannot be changed")(changeAll(folder, write, remove)))

const lock = Effect.fnUntraced(function* (folder: string) {
  const host = yield* StoreHost
  const until = (yield* Clock.currentTimeMillis) + maxWait
  yield* makeFolder(folder)
  yield* Lock.acquire(host, folder, (owner) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const detail = `cannot be changed: process ${owner.pid} on ${owner.host} is changing it`
      return now < until ? Effect.void : Effect.fail(new RegistryFileFailed({ path: folder, detail }))
    })
  )
  const pending = yield* pendingIn(folder)
  if (pending !== undefined) yield* Effect.uninterruptible(finish(folder, pending))
})

/** Runs while no other process changes the folder, which is made where there is none. */
export const locked = <A, E, R>(folder: string, use: Effect.Effect<A, E, R>) =>
  Effect.scoped(Effect.zipRight(about(folder, "cannot be changed")(lock(folder)), use))

// =============================================================================
// Backups
// =============================================================================

/** So many backups are kept; older ones are deleted. */
const maxBackups = 10

const backupsOf = (folder: string): string => `${folder.replace(/[/\\]+$/, "")}.backup`

const backupName = /^\d{8}T\d{6}\.\d{3}Z(-\d+)?$/

/** The backups of a folder, the newest first: the times at which they were made. */
export const backups = (folder: string) =>
  Effect.map(about(backupsOf(folder), "cannot be read")(namesIn(backupsOf(folder))), (names = []) =>
    names
      .filter((name) => backupName.test(name))
      .sort()
      .reverse()
  )

/** Where a backup is, if there is one of that name. */
export const backupPath = (folder: string, name: string) =>
  Effect.map(Path.Path, (path) => path.join(backupsOf(folder), name))

const copyAll = Effect.fnUntraced(function* (folder: string, now: Date) {
  const [fs, path, host] = yield* Effect.all([FileSystem.FileSystem, Path.Path, StoreHost])
  const names = (yield* fs.readDirectory(folder)).filter(isJson)
  if (names.length === 0) return undefined
  const all = backupsOf(folder)
  yield* makeFolder(all)
  const present = yield* fs.readDirectory(all)
  const stamp = now.toISOString().replace(/[-:]/g, "")
  let name = stamp
  for (let i = 1; present.includes(name); i++) name = `${stamp}-${i}`
  const unfinished = path.join(all, `.${name}.${host.self.pid}.tmp`)
  yield* fs.makeDirectory(unfinished)
  for (const file of names) {
    const copy = path.join(unfinished, file)
    yield* fs.copyFile(path.join(folder, file), copy)
    yield* Effect.scoped(Effect.flatMap(fs.open(copy, { flag: "r+" }), ({ sync }) => sync))
  }
  yield* syncFolder(unfinished)
  yield* fs.rename(unfinished, path.join(all, name))
  yield* syncFolder(all)
  const old = [...present.filter((one) => backupName.test(one)), name].sort().reverse().slice(maxBackups)
  const left = present.filter((one) => temporary.test(one))
  for (const one of [...old, ...left]) yield* fs.remove(path.join(all, one), { recursive: true, force: true })
  return path.join(all, name)
})

/** Copies the registry files of a folder into a new backup, and returns its path; `undefined` if there are none. */
export const backUp = (folder: string, now: Date) =>
  Effect.uninterruptible(about(folder, "cannot be backed up")(copyAll(folder, now)))
