/**
 * The keys of the store in the memory of a gateway: a request with a known key waits for no database. What has changed
 * is read at short intervals, and once more before a key is called wrong, since it may have been made a moment ago.
 * While the store is away, the keys that are known stay valid.
 */
import { timingSafeEqual } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { StoreUnavailable } from "../../Errors.js"
import type * as Store from "../../Store.js"
import * as ErrorResponse from "../http/errorResponse.js"
import { inTime } from "../storeTimeout.js"
import * as ApiKeys from "./ApiKeys.js"
import type { Caller } from "./keyPolicy.js"
import { ModelPatterns } from "./modelPatterns.js"
import * as Secret from "./secret.js"

/** How often changes are looked for: a revoked key is denied everywhere within a second. */
const interval = "400 millis"

interface CachedKey extends ApiKeys.StoredKey {
  readonly caller: Caller
}

const callerOf = ({
  concurrency = Number.POSITIVE_INFINITY,
  id,
  models,
  name,
  priority = "interactive",
  private: isPrivate = false,
  requestsPerMinute = Number.POSITIVE_INFINITY,
  role,
  tokensPerDay: day,
  tokensPerMinute = Number.POSITIVE_INFINITY,
  tokensPerMonth: month,
  tokensPerWeek: week
}: ApiKeys.ApiKey): Caller => ({
  id,
  name,
  requestsPerMinute,
  tokensPerMinute,
  concurrency,
  quota: day === undefined && week === undefined && month === undefined ? undefined : { day, week, month },
  priority,
  private: isPrivate,
  admin: role === "admin",
  manages: role !== "use",
  models: models === undefined ? undefined : new ModelPatterns(models)
})

const timeOf = (time: number): string => new Date(time).toISOString().replace(/\.\d+Z$/, "Z")

export class KeyCache {
  private readonly known = new Map<string, CachedKey>()
  private version = 0
  private running: Promise<void> | undefined
  private next: Promise<void> | undefined
  /** Whether the last look at the store succeeded. */
  available = true

  constructor(
    readonly keys: ApiKeys.ApiKeys,
    private readonly log: (text: string) => void
  ) {}

  /** Whether the store has had a key: then every request needs one. */
  get isUsed(): boolean {
    return this.known.size > 0
  }

  readonly load: Effect.Effect<void, StoreUnavailable> = Effect.suspend(() =>
    Effect.map(this.keys.changes(this.version), (changed) => {
      for (const stored of changed) {
        this.known.set(stored.key.id, { ...stored, caller: callerOf(stored.key) })
        this.version = stored.version
      }
    })
  )

  private readonly look = Effect.suspend(() =>
    Effect.match(inTime(this.load), {
      onSuccess: () => {
        if (!this.available) this.log("the store answers again: changes of API keys are known again")
        this.available = true
      },
      onFailure: ({ reason }) => {
        if (this.available) this.log(`the store is away (${reason}): the API keys that are known stay valid`)
        this.available = false
      }
    })
  )

  /** Looks for changes now. Several that ask at once wait for one look, which begins after they asked. */
  refresh(): Promise<void> {
    if (this.running === undefined) {
      this.running = Effect.runPromise(this.look).finally(() => {
        this.running = undefined
      })
      return this.running
    }
    this.next ??= this.running.then(() => {
      this.next = undefined
      return this.refresh()
    })
    return this.next
  }

  /** Looks for changes until the scope closes. */
  readonly watch: Effect.Effect<void, never, Scope.Scope> = Effect.promise(() => this.refresh()).pipe(
    Effect.repeat(Schedule.spaced(interval)),
    Effect.forkScoped,
    Effect.asVoid
  )

  /** The owner of this key, or why it is denied; `undefined` if it is unknown. */
  find(secret: string): Caller | ErrorResponse.ErrorResponse | undefined {
    const id = Secret.idOf(secret)
    return id === undefined ? undefined : this.holder(id, Secret.hashOf(secret))
  }

  /** The owner of the key with this id whose text has this hash. */
  holder(id: string, textHash: string): Caller | ErrorResponse.ErrorResponse | undefined {
    const found = this.known.get(id)
    if (found === undefined) return undefined
    const { caller, hash, key, previousHash } = found
    const now = Date.now()
    const given = Buffer.from(textHash, "hex")
    const isPrevious =
      previousHash !== undefined && (key.previousUntil ?? 0) > now && timingSafeEqual(given, previousHash)
    if (!timingSafeEqual(given, hash) && !isPrevious) return undefined
    const { expiresAt = 0, name } = key
    switch (ApiKeys.stateOf(key, now)) {
      case "revoked":
        return ErrorResponse.make(401, `The API key '${name}' has been revoked.`, "revoked_api_key")
      case "expired":
        return ErrorResponse.make(401, `The API key '${name}' expired at ${timeOf(expiresAt)}.`, "expired_api_key")
      default:
        return caller
    }
  }

  /** The same for a key that may have been made or rotated a moment ago. */
  async lookUp(secret: string): Promise<Caller | ErrorResponse.ErrorResponse | undefined> {
    if (Secret.idOf(secret) === undefined) return undefined
    await this.refresh()
    return this.find(secret)
  }
}

/** The keys of this store, which are known when it is made, and watched until the scope closes. */
export const make = (
  store: Store.Service,
  log: (text: string) => void
): Effect.Effect<KeyCache, StoreUnavailable, Scope.Scope> =>
  Effect.gen(function* () {
    const cache = new KeyCache(ApiKeys.make(store), log)
    yield* cache.load
    yield* cache.watch
    return cache
  })
