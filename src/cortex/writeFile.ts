/** Changes the configuration file, and writes other files whole. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import { readFile, unusable } from "../config/file.js"
import type { FileServer } from "../config/server.js"
import { InvalidConfig } from "../Errors.js"
import * as Server from "../Server.js"

/** Servers are the same if their addresses are, however they are written. */
const address = (server: string | { readonly url: string }): string => {
  const url = typeof server === "string" ? server : server.url
  return Either.match(Server.fromOptions(url, ""), { onLeft: () => url.trim(), onRight: (server) => server.url })
}

/** A symbolic link stays one: what it points to is written. */
const target = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  return yield* Effect.orElseSucceed(fs.realPath(file), () => file)
})

/** Writes a file whole or not at all, and readable by nobody else: it may hold keys. */
export const replaceFile = Effect.fnUntraced(function* (file: string, text: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const real = yield* target(file)
  const temporary = `${real}.${process.pid}.tmp`
  yield* fs.makeDirectory(path.dirname(real), { recursive: true, mode: 0o700 })
  yield* fs.writeFileString(temporary, text, { mode: 0o600 }).pipe(
    Effect.zipRight(fs.chmod(temporary, 0o600)),
    Effect.zipRight(fs.rename(temporary, real)),
    Effect.onError(() => Effect.ignore(fs.remove(temporary)))
  )
})

type Entry = string | FileServer

/** So long another process is waited for, and so old is a lock that a process left behind, in milliseconds. */
const patience = 5_000
const stale = 10_000

/** One process at a time changes a file: what two read and then write, only the later one would have written. */
const lock = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const real = yield* target(file)
  const held = `${real}.lock`
  yield* fs.makeDirectory(path.dirname(real), { recursive: true, mode: 0o700 })
  const begun = yield* Clock.currentTimeMillis
  while (true) {
    const taken = yield* Effect.either(fs.writeFileString(held, `${process.pid}\n`, { flag: "wx", mode: 0o600 }))
    if (Either.isRight(taken)) return held
    if (taken.left._tag !== "SystemError" || taken.left.reason !== "AlreadyExists") return yield* taken.left
    const now = yield* Clock.currentTimeMillis
    const since = yield* fs.stat(held).pipe(
      Effect.map(({ mtime }) => Option.match(mtime, { onNone: () => now, onSome: (date) => date.getTime() })),
      Effect.orElseSucceed(() => now)
    )
    if (now - since > stale) yield* Effect.ignore(fs.remove(held))
    else if (now - begun < patience) yield* Effect.interruptible(Effect.sleep(20))
    else {
      const reason = `another process is changing it; if none is, delete ${held}`
      return yield* new InvalidConfig({ source: file, field: "file", reason })
    }
  }
})

/**
 * Changes the servers in the configuration file, and nothing else in it. `change` gives the new ones, or `undefined`
 * to leave the file as it is.
 */
const edit = Effect.fnUntraced(function* (
  file: string,
  change: (servers: ReadonlyArray<Entry>) => ReadonlyArray<Entry> | undefined
) {
  const fs = yield* FileSystem.FileSystem
  const changed = Effect.map(readFile(file), ({ servers = [] }) => change(servers))
  if ((yield* changed) === undefined) return false
  // Another process may have changed it since.
  const write = Effect.gen(function* () {
    const servers = yield* changed
    if (servers === undefined) return false
    const text = (yield* fs.exists(file)) ? yield* fs.readFileString(file) : "{}"
    // An empty list would mean none, not even the local one.
    const content = { ...JSON.parse(text), servers: servers.length === 0 ? undefined : servers }
    yield* replaceFile(file, `${JSON.stringify(content, undefined, 2)}\n`)
    return true
  })
  return yield* Effect.acquireUseRelease(
    lock(file),
    () => Effect.uninterruptible(write),
    (held) => Effect.ignore(fs.remove(held))
  ).pipe(Effect.mapError((error) => (error._tag === "InvalidConfig" ? error : unusable(file, error))))
})

/**
 * Adds a server to the configuration file, which is made where there is none. `false` if it names the server already.
 */
export const addServer = (file: string, server: FileServer) => {
  const { url, ...rest } = server
  const entry = Object.values(rest).some((value) => value !== undefined) ? server : url
  return edit(file, (servers) =>
    servers.some((other) => address(other) === address(server)) ? undefined : [...servers, entry]
  )
}

/** Removes a server from the configuration file. `false` if it does not name the server. */
export const removeServer = (file: string, url: string) =>
  edit(file, (servers) => {
    const left = servers.filter((other) => address(other) !== address(url))
    return left.length === servers.length ? undefined : left
  })
