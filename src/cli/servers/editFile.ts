/**
 * Changes the servers in the configuration file.
 *
 * @since 0.1.0
 */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { readFile, unusable } from "../../config/file.js"
import type { FileServer } from "../../config/server.js"
import { replaceFile, target } from "../../cortex/writeFile.js"
import { InvalidConfig } from "../../Errors.js"
import * as Server from "../../Server.js"

/** Servers are the same if their addresses are, however they are written. */
const address = (server: string | { readonly url: string }): string => {
  const url = typeof server === "string" ? server : server.url
  return Either.match(Server.fromOptions(url, ""), { onLeft: () => url.trim(), onRight: (server) => server.url })
}

type Entry = string | FileServer

/** So long another process is waited for, and so old is a lock that a process left behind, in milliseconds. */
const patience = 5_000
const stale = 10_000

/** One process at a time changes a file: what two read and then write, only the later one would have written. */
const lock = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const real = yield* target(file)
  yield* fs.makeDirectory(path.dirname(real), { recursive: true, mode: 0o700 })
  return yield* Effect.tryPromise({
    try: async () => {
      // A CommonJS module that is bundled has nothing but this.
      const { lock } = (
        (await import("proper-lockfile")) as unknown as { readonly default: typeof import("proper-lockfile") }
      ).default
      const pause = 20
      const retries = { retries: patience / pause, factor: 1, minTimeout: pause, maxTimeout: pause }
      return lock(real, { realpath: false, stale, retries })
    },
    catch: (cause) => {
      const error = cause as NodeJS.ErrnoException
      const reason =
        error.code === "ELOCKED" ? `another process is changing it; if none is, delete ${real}.lock` : error.message
      return new InvalidConfig({ source: file, field: "file", reason })
    }
  })
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
    // Whoever took it for left behind has it now.
    (release) => Effect.promise(() => release().catch(() => {}))
  ).pipe(Effect.mapError((error) => (error._tag === "InvalidConfig" ? error : unusable(file, error))))
})

/**
 * Adds a server to the configuration file, which is made where there is none. `false` if it names the server already.
 *
 * @since 0.1.0
 * @category combinators
 */
export const addServer = (file: string, server: FileServer) => {
  const { url, ...rest } = server
  const entry = Object.values(rest).some((value) => value !== undefined) ? server : url
  return edit(file, (servers) =>
    servers.some((other) => address(other) === address(server)) ? undefined : [...servers, entry]
  )
}

/**
 * Removes a server from the configuration file. `false` if it does not name the server.
 *
 * @since 0.1.0
 * @category combinators
 */
export const removeServer = (file: string, url: string) =>
  edit(file, (servers) => {
    const left = servers.filter((other) => address(other) !== address(url))
    return left.length === servers.length ? undefined : left
  })
