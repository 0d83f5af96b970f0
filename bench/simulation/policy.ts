/** What a routing policy is to the simulation: what it may know, what it decides, what it is told. */

/** `Pick.next` says: hold the request until the policy wakes it. */
export const queue = -2

/** `Pick.next` says: there is nobody left to try. */
export const nobody = -1

/** A request as the client sees it. `prompt` is in tokens; `session` is -1 outside a conversation. */
export interface Request {
  readonly id: number
  readonly model: number
  readonly prompt: number
  readonly session: number
}

/** Whom to try now, and after each failure: a server's index, `queue` or `nobody`. */
export interface Pick {
  next(now: number): number
}

export type Failure = "error" | "refused" | "timeout" | "stalled" | "cut"

/** What the last chunk of an answer tells, in seconds (Ollama's own counters, and what follows from them). */
export interface Counters {
  readonly tokens: number
  readonly tokensPerSecond: number
  readonly promptTokens: number
  readonly promptTime: number
  readonly loadTime: number
  /** Time to the first token that was neither load nor prompt: the wait for a slot. */
  readonly waitTime: number
}

/**
 * One client's routing. Times are in seconds. Every `start` is followed by exactly one of `end`, `failed` and
 * `cancelled`; `firstToken` may come in between. `ps` is an answer to `/api/ps`: the models in memory.
 */
export interface Policy {
  choose(request: Request, now: number): Pick
  start(server: number, request: Request, now: number): void
  firstToken(server: number, request: Request, time: number, now: number): void
  end(server: number, request: Request, counters: Counters, now: number): void
  failed(server: number, request: Request, failure: Failure, now: number): void
  cancelled(server: number, request: Request, now: number): void
  ps(server: number, models: ReadonlyArray<number>, now: number): void
  /** A held request has run out of patience. */
  gone(request: Request, now: number): void
  /** Once a second. */
  tick(now: number): void
}

/** What a client knows of the fleet without having asked anything of it. */
export interface Client {
  readonly servers: number
  readonly models: number
  /** The servers that have a model on their disk, ascending. */
  hosts(model: number): Int32Array
  random(): number
  /** Asks the held request's `Pick` again, once the current event is over. */
  wake(id: number): void
}

/** What only the oracle may ask. */
export interface Truth {
  /** Seconds until this server's first token for a request that is sent now; infinite where none will come. */
  predict(server: number, request: Request, bound: number): number
  /** Whether the model is in the server's memory, or on its way into it. */
  holds(server: number, model: number): boolean
}

export interface Contender {
  readonly name: string
  readonly about: string
  /** Attempts per request; a plain balancer does not try forever. */
  readonly attempts: number
  /** Fleets larger than this are not tried: too slow. */
  readonly limit?: number
  readonly make: (client: Client, truth: Truth) => Policy
}

/** A policy that learns nothing. */
export const deaf: Omit<Policy, "choose"> = {
  start() {},
  firstToken() {},
  end() {},
  failed() {},
  cancelled() {},
  ps() {},
  gone() {},
  tick() {}
}
