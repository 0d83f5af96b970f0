/** What the gateway's endpoints give; see docs/gateway/dashboard.md. */

export interface Breaker {
  readonly state: "closed" | "half-open" | "open"
  readonly since: number | null
  readonly rests_until: number | null
  readonly reason: string | null
  readonly why: string | null
}

export interface Model extends Breaker {
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

export interface Server extends Breaker {
  readonly server: string
  readonly protocol: string | null
  readonly version: string | null
  readonly local: boolean
  readonly reachable: boolean
  readonly problem: string | null
  readonly checked_at: number | null
  readonly draining: boolean
  readonly in_flight: number
  readonly places: number | null
  readonly queued: number
  readonly round_trip_ms: number | null
  readonly tokens_per_second: number | null
  readonly first_token_ms: number | null
  readonly model_count: number
  readonly models: ReadonlyArray<Model>
}

export interface Fleet {
  readonly at: number
  readonly version: string
  readonly admin: boolean
  readonly manages: boolean
  readonly keys: boolean
  readonly in_flight: number
  readonly queued: number
  readonly remote_tokens: { readonly used: number; readonly limit: number | null }
  readonly servers: ReadonlyArray<Server>
}

export interface Attempt {
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

export interface Placed {
  readonly model: string
  readonly server: string
  readonly reason: string
}

export interface Request {
  readonly id: string
  readonly request_id: string
  readonly at: number
  readonly route: string
  readonly key: string | null
  readonly model: string | null
  readonly stream: boolean
  readonly attempts?: ReadonlyArray<Attempt>
  readonly queued_ms?: number
  readonly dequeued_ms?: number
  readonly status?: number
  readonly duration_ms?: number
  readonly first_token_ms?: number | null
  readonly server?: string | null
  readonly tries?: number
  readonly cached?: boolean
  readonly prompt_tokens?: number
  readonly cached_tokens?: number
  readonly completion_tokens?: number
  readonly client_left?: boolean
  readonly error?: string | null
  /** What failed after the answer, such as `session_not_stored`. */
  readonly warning?: string | null
  readonly why?: string | null
  readonly decision?: Placed & {
    readonly asked: string
    readonly candidates: ReadonlyArray<Placed>
    readonly excluded: ReadonlyArray<Placed>
  }
}

export interface Download {
  readonly action: string
  readonly model: string
  readonly server: string
  readonly state: "begin" | "progress" | "done" | "failed"
  readonly status: string
  readonly completed: number | null
  readonly total: number | null
  /** Of this machine: what it can be stopped by. */
  readonly task?: string
  readonly at: number
}

export interface Session {
  readonly keys: boolean
  readonly signed_in: boolean
  readonly key: string | null
  /** What the browser may do; `null`: it has to sign in. */
  readonly role: "use" | "manage" | "admin" | null
  readonly csrf: string | null
}
