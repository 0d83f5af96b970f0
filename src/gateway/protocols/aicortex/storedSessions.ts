/**
 * What is kept of conversations: lists, searches, titles, copies and exports under `/v1/sessions`. With API keys, each
 * belongs to the key that created it; to other keys it does not exist. Times are Unix seconds, and those of exports ISO 8601.
 */
import type * as Effect from "effect/Effect"
import * as Sessions from "../../../Sessions.js"
import type { GatewayContext } from "../../GatewayContext.js"
import type * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import { reject } from "../../http/errorResponse.js"
import * as FieldPolicy from "../../http/fieldPolicy.js"
import * as Query from "../../http/query.js"
import type { RequestContext } from "../../http/RequestContext.js"
import { mine, prefixOf } from "./sessionOwner.js"

const title = (doc: string) => Body.text({ doc })
const metadata = (doc: string) => Body.json({ doc })

/** The body of `PATCH /v1/sessions/{id}`. */
export const updateBody = Body.struct({
  title: Body.nullable(title("What it is called, at most 200 characters; null: its first question in short.")),
  metadata: metadata("A small JSON object, which takes the place of the one before: at most 16,384 characters.")
})

/** The body of `POST /v1/sessions/{id}/copy`. */
export const copyBody = Body.struct({
  title: title("What the copy is called. Default: as the original."),
  metadata: metadata("The metadata of the copy. Default: that of the original."),
  turns: Body.whole(0, Number.MAX_SAFE_INTEGER, { doc: "Only so many turns, from the first one. Default: all." })
})

const run = <A, E>({ library }: GatewayContext, use: (sessions: Sessions.Service) => Effect.Effect<A, E>): Promise<A> =>
  library.run(use(library.sessions)).result

const seconds = (milliseconds: number): number => Math.floor(milliseconds / 1000)

const summaryView = (one: Sessions.Summary): object => ({
  id: one.id,
  object: "session",
  title: one.title ?? null,
  titled: one.titled,
  metadata: one.metadata,
  private: Sessions.isPrivate(one.id),
  created_at: seconds(one.createdAt),
  used_at: seconds(one.usedAt),
  message_count: one.messages,
  opening: one.opening ?? null
})

/** A server as it is named everywhere: by number where its address is not to be shown. */
const named = (labels: GatewayContext["labels"], server: string | undefined): string | undefined =>
  server === undefined ? undefined : labels.label(server)

const usageView = ({ labels }: GatewayContext, usage: Partial<Sessions.TurnUsage>): object => ({
  ...(usage.model === undefined ? {} : { model: usage.model, server: named(labels, usage.server) }),
  prompt_tokens: usage.promptTokens ?? null,
  cached_tokens: usage.cachedTokens ?? null,
  completion_tokens: usage.completionTokens ?? null,
  reasoning_tokens: usage.reasoningTokens ?? null
})

const timeOf = (query: URLSearchParams, name: "since" | "until"): number | undefined => {
  const text = query.get(name)
  if (text === null) return undefined
  const time = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Number.NaN
  return Number.isNaN(time) ? reject(name, "must be a time such as 2026-01-31 or 2026-01-31T12:00:00Z") : time
}

const membersOf = (text: string | null): Sessions.Filter["metadata"] => {
  if (text === null) return undefined
  try {
    return JSON.parse(text) as Sessions.Filter["metadata"]
  } catch {
    return reject("metadata", "must be a JSON object")
  }
}

const filters = ["limit", "cursor", "title", "metadata", "since", "until"] as const

const listOptions = (query: URLSearchParams, context: RequestContext): Sessions.SearchOptions => ({
  prefix: prefixOf(context),
  limit: Query.limit(query, 1_000, 50),
  cursor: query.get("cursor") ?? undefined,
  title: query.get("title") ?? undefined,
  metadata: membersOf(query.get("metadata")),
  since: timeOf(query, "since"),
  until: timeOf(query, "until")
})

const next = (cursor: string | undefined): object => (cursor === undefined ? {} : { next: cursor })

/** `GET /v1/sessions`: the caller's conversations, most recently used first. */
export const list = async (gateway: GatewayContext, context: RequestContext): Promise<void> => {
  const query = Query.of(context, [...filters, "text"])
  const options = { ...listOptions(query, context), text: query.get("text") ?? undefined }
  const page = await run(gateway, (sessions) => sessions.page(options))
  context.json({ object: "list", data: page.items.map(summaryView), ...next(page.next) })
}

/** `GET /v1/sessions/search`: the caller's turns that have some words, the newest first. */
export const search = async (gateway: GatewayContext, context: RequestContext): Promise<void> => {
  const query = Query.of(context, [...filters, "q"])
  const words = query.get("q") ?? ""
  if (words.trim() === "") reject("q", "is missing", "missing_required_parameter")
  const page = await run(gateway, (sessions) => sessions.search(words, listOptions(query, context)))
  const data = page.items.map(({ at, excerpt, id, role, title, turn }) => ({
    session_id: id,
    object: "session.hit",
    title: title ?? null,
    turn,
    role,
    at: seconds(at),
    excerpt
  }))
  context.json({ object: "list", data, ...next(page.next) })
}

/** `GET /v1/sessions/{id}`. */
export const read = async (gateway: GatewayContext, context: RequestContext, id: string): Promise<void> => {
  const own = mine(context, id)
  const details = await run(gateway, (sessions) => sessions.details(own))
  const turns = await run(gateway, (sessions) => sessions.turns(own))
  context.json({
    ...summaryView(details),
    usage: usageView(gateway, details.usage),
    messages: turns.flatMap(({ messages }) => messages),
    turns: turns.map(({ at, messages, usage }) => ({
      at: seconds(at),
      message_count: messages.length,
      usage: usage === undefined ? null : usageView(gateway, usage)
    }))
  })
}

/** A field that is misspelt must not be left out. */
const checked = (body: BodyFields.Fields, declared: Parameters<FieldPolicy.IgnoredFields["check"]>[1]): void =>
  new FieldPolicy.IgnoredFields(true).check(body, declared)

/** `PATCH /v1/sessions/{id}`. */
export const update = async (
  gateway: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields,
  id: string
): Promise<void> => {
  checked(body, updateBody)
  const { read } = updateBody
  const changes = {
    title: body["title"] === null ? null : read.title(body),
    metadata: read.metadata(body) as Sessions.Metadata | undefined
  }
  const own = mine(context, id)
  await run(gateway, (sessions) => sessions.update(own, changes))
  context.json(summaryView(await run(gateway, (sessions) => sessions.details(own))))
}

/** `POST /v1/sessions/{id}/copy`. */
export const copy = async (
  gateway: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields,
  id: string
): Promise<void> => {
  checked(body, copyBody)
  const { read } = copyBody
  const options = {
    title: read.title(body),
    metadata: read.metadata(body) as Sessions.Metadata | undefined,
    turns: read.turns(body)
  }
  const made = await run(gateway, (sessions) => sessions.copy(mine(context, id), options))
  context.json(summaryView(await run(gateway, (sessions) => sessions.details(made.id))), 201)
}

/** `GET /v1/sessions/{id}/export`. */
export const exportOne = async (gateway: GatewayContext, context: RequestContext, id: string): Promise<void> => {
  const format = Query.of(context, ["format"]).get("format") ?? "json"
  if (format !== "json" && format !== "markdown") reject("format", "must be json or markdown")
  const exported = await run(gateway, (sessions) => sessions.exportSession(mine(context, id)))
  const turns = exported.turns.map((turn) =>
    turn.usage === undefined
      ? turn
      : { ...turn, usage: { ...turn.usage, server: named(gateway.labels, turn.usage.server) } }
  )
  if (format === "json") context.json({ ...exported, turns })
  else context.send(200, "text/markdown; charset=utf-8", Sessions.markdown(exported))
}
