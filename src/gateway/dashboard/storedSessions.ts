/**
 * Sessions of browsers that signed in with a key of the store. What the store has of a key must not be enough to make
 * one, so a session is a random text of which the store has only a hash. It holds at every gateway of the store, as long
 * as the text of the key that it was opened with is valid.
 */
import { createHash, randomBytes } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Store from "../../Store.js"
import type * as ErrorResponse from "../http/errorResponse.js"
import { storeRejection } from "../http/storeRejection.js"
import type { KeyCache } from "../keys/KeyCache.js"
import type { Caller } from "../keys/keyPolicy.js"
import * as Secret from "../keys/secret.js"
import { lifetime } from "./session.js"

const form = /^store_[\w-]{43}$/

/** Whether the value of a cookie is such a session. */
export const isStored = (session: string): boolean => form.test(session)

const digest = (text: string): string => createHash("sha256").update(text).digest("base64url")

/** What a page sends along with the cookie: it does not lead back to the session. */
export const csrfOf = (session: string): string => digest(`csrf ${session}`)

/** How long a session is believed to be there without a look, in milliseconds. */
const believed = 5_000

/** Sessions that are kept in memory, and looks at the store at once. */
const maxKept = 10_000
const maxLooks = 32

interface Row {
  readonly key_id: string
  readonly key_hash: string
  readonly expires_at: number
}

interface CachedSession {
  readonly row: Row
  readonly seen: number
}

/** The caller of a session, why it is denied, or `undefined` where there is no such session. */
export type SessionLookup = Caller | ErrorResponse.ErrorResponse | undefined

const storeUnavailable = (reason: string): ErrorResponse.ErrorResponse => storeRejection("The store", reason)

export class StoredSessions {
  private readonly cache = new Map<string, CachedSession>()
  private looks = 0

  constructor(
    private readonly store: Store.Service,
    private readonly keys: KeyCache
  ) {}

  /** A session of this key, which is valid; an error where it cannot be stored. */
  async create(key: string, now: number): Promise<string | ErrorResponse.ErrorResponse> {
    const session = `store_${randomBytes(32).toString("base64url")}`
    const hash = digest(session)
    const row = { key_id: Secret.idOf(key) ?? "", key_hash: Secret.hashOf(key), expires_at: now + lifetime * 1_000 }
    const done = await Effect.runPromise(
      Effect.either(
        this.store.transaction((sql) =>
          Effect.zipRight(
            sql`DELETE FROM aicortex_page_sessions WHERE expires_at <= ${now}`,
            sql`INSERT INTO aicortex_page_sessions (hash, key_id, key_hash, expires_at)
              VALUES (${hash}, ${row.key_id}, ${row.key_hash}, ${row.expires_at})`
          )
        )
      )
    )
    if (Either.isLeft(done)) return storeUnavailable(done.left.reason)
    this.keep(hash, row, now)
    return session
  }

  /** Asks the store only where it has not been asked in the last seconds. */
  find(session: string, now: number): SessionLookup | Promise<SessionLookup> {
    const hash = digest(session)
    const kept = this.cache.get(hash)
    return kept === undefined || now - kept.seen > believed ? this.look(hash, kept, now) : this.holder(kept.row, now)
  }

  /** The session is over, at the other gateways within seconds. */
  async remove(session: string): Promise<void> {
    const hash = digest(session)
    this.cache.delete(hash)
    await Effect.runPromise(
      Effect.either(this.store.use((sql) => sql`DELETE FROM aicortex_page_sessions WHERE hash = ${hash}`))
    )
  }

  private holder(row: Row, now: number): SessionLookup {
    return row.expires_at > now ? this.keys.holder(row.key_id, row.key_hash) : undefined
  }

  private async look(hash: string, kept: CachedSession | undefined, now: number): Promise<SessionLookup> {
    // Invented cookies do not keep the store busy.
    if (this.looks >= maxLooks)
      return kept === undefined ? storeUnavailable("too many ask it") : this.holder(kept.row, now)
    this.looks++
    const reading = this.store.use(
      (sql) => sql<Row>`SELECT key_id, key_hash, expires_at FROM aicortex_page_sessions WHERE hash = ${hash}`
    )
    const done = await Effect.runPromise(Effect.either(reading)).finally(() => {
      this.looks--
    })
    // While the store is away, the sessions that are known go on, as the keys do.
    if (Either.isLeft(done)) return kept === undefined ? storeUnavailable(done.left.reason) : this.holder(kept.row, now)
    const [row] = done.right
    if (row === undefined) {
      this.cache.delete(hash)
      return undefined
    }
    this.keep(hash, row, now)
    const found = this.holder(row, now)
    if (found !== undefined) return found
    // The key may have been made a moment ago, at another gateway.
    await this.keys.refresh()
    return this.holder(row, now)
  }

  private keep(hash: string, row: Row, now: number): void {
    if (this.cache.size >= maxKept) this.cache.clear()
    this.cache.set(hash, { row, seen: now })
  }
}
