/**
 * One process at a time downloads a model, or changes a registry. Each that wants to puts down a file of its own, and
 * goes on if there is no other of a process that lives; else it takes its file away and waits. The file of a process
 * that has ended is removed by any process that finds it: so none waits for a process that was killed.
 */
import type { PlatformError } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { Host, Owner } from "./host.js"

const prefix = ".lock-"

/** The ending of a file that is being written: it counts once it is whole and has its name. */
const unfinished = ".new"

/** How often the file is touched, for processes of other machines that share the folder, in milliseconds. */
const touchEvery = 10_000

/** After so long without, its process counts as ended, in milliseconds. */
const staleAfter = 60_000

/** How often one looks whether it is one's turn, in milliseconds. */
const lookEvery = 150

const decode = Schema.decodeUnknownOption(
  Schema.parseJson(
    Schema.Struct({
      host: Schema.String,
      pid: Schema.Number,
      started: Schema.optional(Schema.String)
    })
  )
)

/**
 * Holds the lock of a folder until the scope closes. `waiting` is called with the holder each time that the lock is
 * taken.
 */
export const acquire = Effect.fnUntraced(function* <E, R>(
  host: Host,
  folder: string,
  waiting: (owner: Owner) => Effect.Effect<void, E, R>
) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const number = yield* Random.nextIntBetween(0, 2 ** 31)
  const now = yield* Clock.currentTimeMillis
  const own = `${prefix}${host.self.pid}-${now.toString(36)}-${number.toString(36)}`
  const file = path.join(folder, own)
  const written = `${file}${unfinished}`
  const put = Effect.zipRight(
    fs.writeFileString(written, JSON.stringify(host.self), { mode: 0o600 }),
    fs.rename(written, file)
  )
  const take = Effect.ignore(fs.remove(file, { force: true }))

  /** Whose file it is, if it counts. */
  const holder = Effect.fnUntraced(function* (name: string) {
    const other = path.join(folder, name)
    const text = yield* Effect.option(fs.readFileString(other))
    if (Option.isNone(text)) return undefined
    const owner = decode(text.value)
    const alive = Option.isSome(owner) ? yield* host.isAlive(owner.value) : undefined
    const counts = !name.endsWith(unfinished)
    if (alive === true) return counts ? Option.getOrUndefined(owner) : undefined
    const stat = yield* Effect.option(fs.stat(other))
    const touched = Option.getOrUndefined(Option.flatMap(stat, ({ mtime }) => mtime))?.getTime() ?? 0
    const time = yield* Clock.currentTimeMillis
    if (alive === undefined && time - touched < staleAfter) {
      return counts ? Option.getOrElse(owner, (): Owner => ({ host: "another machine", pid: 0 })) : undefined
    }
    yield* Effect.ignore(fs.remove(other, { force: true }))
    return undefined
  })

  const others = Effect.gen(function* () {
    const names = (yield* fs.readDirectory(folder)).filter((name) => name.startsWith(prefix) && name !== own)
    for (const name of names) {
      const owner = yield* holder(name)
      if (owner !== undefined) return owner
    }
    return undefined
  })

  const attempt: Effect.Effect<Owner | undefined, PlatformError> = Effect.gen(function* () {
    const before = yield* others
    if (before !== undefined) return before
    yield* put
    const meanwhile = yield* others
    if (meanwhile !== undefined) yield* take
    return meanwhile
  })

  yield* Effect.acquireRelease(Effect.void, () => take)
  while (true) {
    const owner = yield* Effect.onInterrupt(Effect.uninterruptible(attempt), () => take)
    if (owner === undefined) break
    yield* waiting(owner)
    // Two that began at the same moment do not meet again.
    yield* Effect.sleep(lookEvery * (0.5 + (yield* Random.next)))
  }
  const touch = Effect.flatMap(Clock.currentTimeMillis, (time) =>
    Effect.ignore(fs.utimes(file, time / 1000, time / 1000))
  )
  yield* Effect.forkScoped(Effect.repeat(Effect.delay(touch, touchEvery), Schedule.forever))
})
