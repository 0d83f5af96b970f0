/** The data of a gateway that `aicortex top` shows: see docs/gateway/dashboard.md. */
import * as Schema from "effect/Schema"

const maybe = <A, I>(schema: Schema.Schema<A, I>) => Schema.optionalWith(Schema.NullOr(schema), { default: () => null })

const state = {
  state: Schema.String,
  since: maybe(Schema.Number),
  rests_until: maybe(Schema.Number),
  why: maybe(Schema.String)
}

const Model = Schema.Struct({
  model: Schema.String,
  ...state,
  loaded: Schema.Boolean,
  memory: maybe(Schema.Number),
  in_flight: Schema.Number,
  places: maybe(Schema.Number),
  queued: Schema.Number,
  tokens_per_second: maybe(Schema.Number),
  first_token_ms: maybe(Schema.Number)
})

/** A server. Times are in milliseconds, moments in milliseconds since the epoch by the gateway's clock. */
export const Server = Schema.Struct({
  server: Schema.String,
  ...state,
  protocol: maybe(Schema.String),
  version: maybe(Schema.String),
  reachable: Schema.Boolean,
  problem: maybe(Schema.String),
  draining: Schema.Boolean,
  in_flight: Schema.Number,
  places: maybe(Schema.Number),
  queued: Schema.Number,
  tokens_per_second: maybe(Schema.Number),
  first_token_ms: maybe(Schema.Number),
  models: Schema.Array(Model)
})
export type Server = typeof Server.Type
export type Model = typeof Model.Type

/** `GET /fleet`. */
export const Fleet = Schema.Struct({
  at: Schema.Number,
  version: Schema.String,
  admin: Schema.Boolean,
  in_flight: Schema.Number,
  queued: Schema.Number,
  remote_tokens: Schema.Struct({ used: Schema.Number, limit: maybe(Schema.Number) }),
  servers: Schema.Array(Server)
})
export type Fleet = typeof Fleet.Type

const Attempt = Schema.Struct({
  attempt: Schema.Number,
  server: Schema.String,
  model: Schema.String,
  began_ms: Schema.Number,
  loads: Schema.optional(Schema.Boolean),
  hedge: Schema.optional(Schema.Boolean),
  connected_ms: Schema.optional(Schema.Number),
  first_token_ms: Schema.optional(Schema.Number),
  ended_ms: Schema.optional(Schema.Number),
  resumes: Schema.optional(Schema.String),
  outcome: Schema.optional(Schema.String),
  why: Schema.optional(Schema.String),
  tokens_per_second: Schema.optional(Schema.Number)
})
export type Attempt = typeof Attempt.Type

const request = {
  id: Schema.String,
  at: Schema.optional(Schema.Number),
  route: Schema.optional(Schema.String),
  key: Schema.optional(Schema.NullOr(Schema.String)),
  model: Schema.optional(Schema.NullOr(Schema.String)),
  attempts: Schema.optional(Schema.Array(Attempt)),
  queued_ms: Schema.optional(Schema.Number),
  dequeued_ms: Schema.optional(Schema.Number),
  status: Schema.optional(Schema.Number),
  duration_ms: Schema.optional(Schema.Number),
  first_token_ms: Schema.optional(Schema.NullOr(Schema.Number)),
  server: Schema.optional(Schema.NullOr(Schema.String)),
  tries: Schema.optional(Schema.Number),
  cached: Schema.optional(Schema.Boolean),
  completion_tokens: Schema.optional(Schema.Number),
  client_left: Schema.optional(Schema.Boolean),
  error: Schema.optional(Schema.NullOr(Schema.String)),
  why: Schema.optional(Schema.NullOr(Schema.String)),
  decision: Schema.optional(Schema.Struct({ reason: Schema.String }))
}

/** A request: what is known of it so far. */
const Request = Schema.Struct(request)
export type Request = typeof Request.Type

/** `GET /requests`. */
export const Requests = Schema.Struct({ running: Schema.Array(Request), recent: Schema.Array(Request) })
export type Requests = typeof Requests.Type

/** An event `request`. */
export const RequestEvent = Schema.Struct({ ...request, kind: Schema.String, attempt: Schema.optional(Attempt) })
export type RequestEvent = typeof RequestEvent.Type
