/** The API keys of the store: `/keys`, for administrators. Times are ISO 8601, and `null` where there is none. */

import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import type { StoreUnavailable } from "../../../Errors.js"
import type { GatewayContext } from "../../GatewayContext.js"
import type * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import { make, RequestRejected, reject } from "../../http/errorResponse.js"
import * as FieldPolicy from "../../http/fieldPolicy.js"
import * as Query from "../../http/query.js"
import type { RequestContext } from "../../http/RequestContext.js"
import { storeRejection } from "../../http/storeRejection.js"
import * as ApiKeys from "../../keys/ApiKeys.js"
import { longestGrace, longestLife, maxPatterns, priorities, ranges, roles } from "../../keys/keyPolicy.js"

const limit = (name: keyof typeof ranges, doc: string) => {
  const [minimum, maximum] = ranges[name]
  return Body.whole(minimum, maximum, { doc })
}

/** The body of `POST /keys`. */
export const createBody = Body.struct({
  name: Body.required(
    Body.text({ doc: "What the key is called in logs, limits and usage: one that no valid key has." })
  ),
  role: Body.oneOf(roles, {
    doc: "use: asks models; manage: may also change the models on servers; admin: everything. Default: use."
  }),
  models: Body.strings(maxPatterns, {
    doc: "The models, aliases and auto that it may use; * stands for any text. Default: all."
  }),
  requests_per_minute: limit("requestsPerMinute", "Requests per minute."),
  tokens_per_minute: limit("tokensPerMinute", "Tokens of prompts and answers per minute."),
  concurrency: limit("concurrency", "Requests at once."),
  tokens_per_day: limit("tokensPerDay", "Quota of tokens of prompts and answers per day (UTC)."),
  tokens_per_week: limit("tokensPerWeek", "The same per week, from Monday."),
  tokens_per_month: limit("tokensPerMonth", "The same per month."),
  private: Body.flag({ doc: "Whether only local servers may answer. Default: false." }),
  priority: Body.oneOf(priorities, { doc: "batch lets interactive requests go first. Default: interactive." }),
  expires_in: Body.whole(1, longestLife / 1_000, { doc: "In how many seconds it expires. Default: it does not." }),
  note: Body.text({ doc: "One line for administrators." })
})

/** The body of `POST /keys/{id}/rotate`. */
export const rotateBody = Body.struct({
  grace: Body.whole(0, longestGrace / 1_000, {
    doc: "For how many seconds the key before stays valid. Default: 0, it is denied at once."
  })
})

const time = (milliseconds: number | undefined): string | null =>
  milliseconds === undefined ? null : new Date(milliseconds).toISOString()

/** A key as the API and the command line show it. */
export const viewOf = (key: ApiKeys.ApiKey, now: number): object => ({
  id: key.id,
  name: key.name,
  state: ApiKeys.stateOf(key, now),
  role: key.role,
  models: key.models ?? null,
  requests_per_minute: key.requestsPerMinute ?? null,
  tokens_per_minute: key.tokensPerMinute ?? null,
  concurrency: key.concurrency ?? null,
  tokens_per_day: key.tokensPerDay ?? null,
  tokens_per_week: key.tokensPerWeek ?? null,
  tokens_per_month: key.tokensPerMonth ?? null,
  private: key.private ?? false,
  priority: key.priority ?? "interactive",
  note: key.note ?? null,
  created_at: time(key.createdAt),
  expires_at: time(key.expiresAt),
  rotated_at: time(key.rotatedAt),
  previous_valid_until: time(key.previousUntil),
  revoked_at: time(key.revokedAt)
})

const statuses = {
  invalid_key_field: 400,
  key_name_taken: 409,
  key_not_found: 404,
  key_revoked: 409
} as const

/** The field of the body that a field of a key comes from. */
const fieldOf = (field: string): string =>
  field === "expiresIn" ? "expires_in" : field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)

const keysOf = ({ storedKeys }: GatewayContext): ApiKeys.ApiKeys => {
  if (storedKeys !== undefined) return storedKeys.keys
  const message = "This gateway has no store, so it keeps no API keys. Start it with --store."
  throw new RequestRejected(make(501, message, "no_store"))
}

const run = async <A>(
  { storedKeys }: GatewayContext,
  effect: Effect.Effect<A, ApiKeys.KeyRefused | StoreUnavailable>
): Promise<A> => {
  const done = await Effect.runPromise(Effect.either(effect))
  if (Either.isRight(done)) {
    // This gateway answers by what was changed, without waiting for its next look.
    await storedKeys?.refresh()
    return done.right
  }
  const error = done.left
  if (error._tag === "StoreUnavailable") {
    throw new RequestRejected(storeRejection("The store of API keys", error.reason))
  }
  const { code, field, reason } = error
  if (code === "invalid_key_field") return reject(fieldOf(field), reason)
  throw new RequestRejected(make(statuses[code], reason, code, field))
}

const withSecret = ({ key, secret }: ApiKeys.CreatedKey): object => ({
  ...viewOf(key, Date.now()),
  key: Redacted.value(secret)
})

/** A response that holds a key must not be kept by anything on its way. */
const secretHeaders = { "cache-control": "no-store" } as const

/** A limit that is misspelt must not be left out, and the key unlimited. */
const checked = (body: BodyFields.Fields, declared: Parameters<FieldPolicy.IgnoredFields["check"]>[1]): void =>
  new FieldPolicy.IgnoredFields(true).check(body, declared)

/** `POST /keys`. */
export const create = async (
  gateway: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields
): Promise<void> => {
  checked(body, createBody)
  const { read } = createBody
  const models = read.models(body)
  const expires = read.expires_in(body)
  const given = {
    name: read.name(body),
    role: read.role(body),
    models: models.length === 0 ? undefined : models,
    requestsPerMinute: read.requests_per_minute(body),
    tokensPerMinute: read.tokens_per_minute(body),
    concurrency: read.concurrency(body),
    tokensPerDay: read.tokens_per_day(body),
    tokensPerWeek: read.tokens_per_week(body),
    tokensPerMonth: read.tokens_per_month(body),
    private: read.private(body),
    priority: read.priority(body),
    expiresIn: expires === undefined ? undefined : expires * 1_000,
    note: read.note(body)
  }
  if (gateway.settings.keys.some(({ name }) => name === given.name)) {
    reject("name", `is the name of an API key in the settings of this gateway`)
  }
  const created = await run(gateway, keysOf(gateway).create(given))
  context.json(withSecret(created), 201, secretHeaders)
}

/** `GET /keys`. */
export const list = async (gateway: GatewayContext, context: RequestContext): Promise<void> => {
  const all = Query.of(context, ["all"]).get("all")
  if (all !== null && all !== "true" && all !== "false") reject("all", "must be true or false")
  const keys = await run(gateway, keysOf(gateway).list({ all: all === "true" }))
  const now = Date.now()
  context.json({ keys: keys.map((key) => viewOf(key, now)) })
}

/** `GET /keys/{id}`. */
export const show = async (gateway: GatewayContext, context: RequestContext, id: string): Promise<void> =>
  context.json(viewOf(await run(gateway, keysOf(gateway).show(id)), Date.now()))

/** `DELETE /keys/{id}`. */
export const revoke = async (gateway: GatewayContext, context: RequestContext, id: string): Promise<void> =>
  context.json(viewOf(await run(gateway, keysOf(gateway).revoke(id)), Date.now()))

/** `POST /keys/{id}/rotate`. */
export const rotate = async (
  gateway: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields,
  id: string
): Promise<void> => {
  checked(body, rotateBody)
  const grace = (rotateBody.read.grace(body) ?? 0) * 1_000
  context.json(withSecret(await run(gateway, keysOf(gateway).rotate(id, grace))), 200, secretHeaders)
}
