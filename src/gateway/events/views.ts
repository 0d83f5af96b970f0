/**
 * What `GET /fleet`, `/servers`, `/requests` and `/session` and the events tell, as JSON: types alone, which the page
 * imports too. Times are in milliseconds, sizes in bytes; see docs/gateway/dashboard.md.
 */

/** A breaker: `since` and `rests_until` are since the epoch, `why` is in words. */
export interface BreakerView {
  readonly state: "closed" | "half-open" | "open"
  readonly since: number | null
  readonly rests_until: number | null
  readonly reason: string | null
  readonly why: string | null
}

/** A model on a server; `loaded_until` is since the epoch. */
export interface ModelView extends BreakerView {
  readonly model: string
  readonly loaded: boolean
  readonly loaded_until: number | null
  readonly size: number | null
  readonly memory: number | null
  readonly gpu_memory: number | null
  readonly in_flight: number
  readonly places: number | null
  readonly queued: number
  readonly tokens_per_second: number | null
  readonly prompt_tokens_per_second: number | null
  readonly first_token_ms: number | null
}

/** A server. */
export interface ServerView extends BreakerView {
  readonly server: string
  readonly protocol: string | null
  readonly version: string | null
  readonly local: boolean
  readonly reachable: boolean
  readonly problem: string | null
  readonly checked_at: number | null
  readonly draining: boolean
  readonly in_flight: number
  /** Requests of other gateways with the same store. */
  readonly in_flight_elsewhere: number
  readonly places: number | null
  readonly queued: number
  readonly round_trip_ms: number | null
  readonly tokens_per_second: number | null
  readonly first_token_ms: number | null
  readonly model_count: number
  readonly models: ReadonlyArray<ModelView>
}

/** `GET /fleet`. */
export interface FleetView {
  readonly at: number
  readonly version: string
  readonly process: number
  readonly processes: number
  readonly event: string
  readonly admin: boolean
  readonly manages: boolean
  readonly keys: boolean
  readonly in_flight: number
  readonly queued: number
  readonly remote_tokens: { readonly used: number; readonly limit: number | null; readonly resets_at: number }
  readonly remote_costs: RemoteCosts | null
  readonly servers: ReadonlyArray<ServerView>
}

interface RemoteCosts {
  readonly currency: string
  readonly day: RemoteCost
  readonly month: RemoteCost
}

interface RemoteCost {
  readonly spent: number
  readonly limit: number | null
  readonly resets_at: number
}

/** One attempt of a request; times count from the request's start. */
export interface AttemptView {
  readonly attempt: number
  readonly server: string
  readonly model: string
  readonly began_ms: number
  readonly loads: boolean
  readonly hedge: boolean
  readonly connected_ms?: number
  readonly first_token_ms?: number
  readonly ended_ms?: number
  readonly resumes?: string
  readonly outcome?: "success" | "failure" | "cancelled" | "overtaken"
  readonly phase?: string
  readonly reason?: string
  readonly why?: string
  readonly status?: number
  readonly tokens_per_second?: number
}

/** A model on a server, and what speaks for it or against it. */
interface Placed {
  readonly model: string
  readonly server: string
  readonly reason: string
}

/** Why a request was answered where it was. */
export interface DecisionView extends Placed {
  readonly asked: string
  readonly candidates: ReadonlyArray<Placed>
  readonly excluded: ReadonlyArray<Placed>
}

/** What is known of a request when it begins; `key` is the name of its key. */
export interface RequestHead {
  readonly id: string
  readonly request_id: string
  readonly at: number
  readonly route: string
  readonly key: string | null
  readonly model: string | null
  readonly stream: boolean
}

/** A request: one with a `status` has ended. */
export interface RequestView extends RequestHead {
  readonly attempts?: ReadonlyArray<AttemptView> | undefined
  readonly queued_ms?: number | undefined
  readonly dequeued_ms?: number | undefined
  readonly decision?: DecisionView | undefined
  readonly duration_ms?: number
  readonly status?: number
  readonly first_token_ms?: number | null
  readonly server?: string | null
  readonly tries?: number
  readonly cached?: boolean
  readonly prompt_tokens?: number
  readonly cached_tokens?: number
  readonly completion_tokens?: number
  readonly client_left?: boolean
  /** What failed after the answer, such as `session_not_stored`. */
  readonly warning?: string | null
  readonly error?: string | null
  readonly why?: string | null
}

/** An event `fleet`: of the models only those that changed. */
export interface FleetEvent extends ServerView {
  readonly at: number
}

/** An event `request`. */
export type RequestEvent =
  | ({ readonly kind: "begin" } & RequestHead)
  | { readonly kind: "attempt"; readonly id: string; readonly attempt: AttemptView }
  | { readonly kind: "queued"; readonly id: string; readonly queued_ms: number }
  | { readonly kind: "dequeued"; readonly id: string; readonly dequeued_ms: number }
  | ({ readonly kind: "end" } & RequestView)

/** What was done to a model on a server. */
export interface ModelEvent {
  readonly at: number
  readonly action: "pull" | "create" | "push" | "copy" | "remove" | "load" | "unload"
  readonly model: string
  readonly server: string
}

/** An event `download`; `task` is what one of this machine can be stopped by. */
export interface DownloadEvent extends ModelEvent {
  readonly task?: string
  readonly state: "begin" | "progress" | "done" | "failed"
  readonly status: string
  readonly completed: number | null
  readonly total: number | null
}

/** `GET /session`; `role` is what the browser may do: `null` where it has to sign in first. */
export interface SessionView {
  readonly keys: boolean
  readonly signed_in: boolean
  readonly key: string | null
  readonly role: "use" | "manage" | "admin" | null
  readonly admin: boolean
  readonly csrf: string | null
}
