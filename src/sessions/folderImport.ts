/**
 * Takes the conversations of a session folder, where earlier versions kept them, into a store, once: then the folder is
 * renamed, so that it is kept and not read again. Several processes may do it at the same time, and one that ended in the
 * middle is gone on with: a conversation that the store has already stays as it is there.
 */
import * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { SessionsUnavailable, type StoreUnavailable } from "../Errors.js"
import type * as Sessions from "../Sessions.js"
import type * as Store from "../Store.js"
import * as OldFolder from "./oldFolder.js"
import { insert } from "./sqlRecord.js"

/** Imports the folder, if it is there. A conversation that cannot be read is named in the log, and stays in the folder. */
export const importFolder = Effect.fnUntraced(function* (
  store: Store.Service,
  folder: string
): Effect.fn.Return<void, SessionsUnavailable | StoreUnavailable, FileSystem.FileSystem | Path.Path> {
  const fs = yield* FileSystem.FileSystem
  const unusable = (cause: { readonly message: string }) =>
    new SessionsUnavailable({ reason: `the folder ${folder} cannot be taken into the store: ${cause.message}` })
  const ids = yield* Effect.mapError(OldFolder.idsIn(folder), unusable)
  if (ids === undefined) return
  let taken = 0
  for (const id of ids) {
    const one = yield* Effect.mapError(OldFolder.read(folder, id), unusable)
    // Another process has taken the folder meanwhile.
    if (one === undefined) continue
    if ("reason" in one) {
      yield* Effect.logWarning(`the conversation ${id} is not taken into the store: ${one.reason}`)
      continue
    }
    yield* store.transaction((sql) => insert(sql, id, one, `import ${id}`))
    taken++
  }
  const first = `${folder}.imported`
  const isTaken = yield* Effect.mapError(fs.exists(first), unusable)
  const aside = isTaken ? `${first}-${yield* Clock.currentTimeMillis}` : first
  const renamed = yield* fs.rename(folder, aside).pipe(
    Effect.as(true),
    Effect.catchIf(
      (error) => error._tag === "SystemError" && error.reason === "NotFound",
      () => Effect.succeed(false)
    ),
    Effect.mapError(unusable)
  )
  if (renamed) {
    yield* Effect.logInfo(
      `${taken} of ${ids.length} conversations of ${folder} are in the store now; the folder is kept as ${aside}`
    )
  }
})

/** A store of conversations that imports the folder before it is first used; what failed is tried again. */
export const after = (
  imports: Effect.Effect<void, SessionsUnavailable | StoreUnavailable>,
  sessions: Sessions.Store
): Sessions.Store => {
  const permit = Effect.unsafeMakeSemaphore(1)
  let done = false
  const once = Effect.suspend(() => (done ? Effect.void : imports)).pipe(
    Effect.tap(() => {
      done = true
      return Effect.void
    }),
    Effect.mapError((error) =>
      error._tag === "StoreUnavailable" ? new SessionsUnavailable({ reason: error.reason }) : error
    ),
    permit.withPermits(1)
  )
  const then = <A>(effect: Effect.Effect<A, SessionsUnavailable>) =>
    Effect.suspend(() => (done ? effect : Effect.zipRight(once, effect)))
  return {
    ...sessions,
    create: (id, seed) => then(sessions.create(id, seed)),
    load: (id) => then(sessions.load(id)),
    append: (id, version, messages, usage) => then(sessions.append(id, version, messages, usage)),
    read: (id) => then(sessions.read(id)),
    update: (id, changes) => then(sessions.update(id, changes)),
    reset: (id) => then(sessions.reset(id)),
    remove: (id) => then(sessions.remove(id)),
    removeUnused: (id, since) => then(sessions.removeUnused(id, since)),
    list: (selection) => then(sessions.list(selection)),
    search: (words, selection) => then(sessions.search(words, selection))
  }
}
