/**
 * Stored responses: create, continue, read, list and delete. Each belongs to the API key that created it; to other keys
 * it does not exist.
 */
import { defaults } from "../../../../ChatRequest.js"
import type { GatewayContext } from "../../../GatewayContext.js"
import type * as BodyFields from "../../../http/body.js"
import * as ErrorResponse from "../../../http/errorResponse.js"
import * as Query from "../../../http/query.js"
import type { RequestContext } from "../../../http/RequestContext.js"
import { dispatch } from "../../../pipeline/dispatch.js"
import type * as ResponseStore from "../../../ResponseStore.js"
import * as Sessions from "../../aicortex/sessions.js"
import * as ResponsesCodec from "./codec.js"
import * as Compact from "./compact.js"
import * as Items from "./items.js"
import * as Request from "./request.js"

const owner = ({ identity }: RequestContext): string => identity ?? ""

/** OpenAI's wording, because clients look for it. */
const unknown = (
  status: number,
  message: string,
  code: string | null,
  param: string | null
): ErrorResponse.RequestRejected =>
  new ErrorResponse.RequestRejected({
    ...ErrorResponse.make(status, message, code, param),
    type: "invalid_request_error"
  })

const notFound = (id: string): ErrorResponse.RequestRejected =>
  unknown(404, `Response with id '${id.slice(0, 200)}' not found.`, null, null)

/** Items that are already there are not repeated. */
const mustDiffer = (earlier: ReadonlyArray<BodyFields.Fields>, items: ReadonlyArray<BodyFields.Fields>): void => {
  const known = new Set(earlier.map(({ id }) => id))
  for (const { id } of items) {
    if (id === undefined || id === null || !known.has(id)) continue
    const message = `Duplicate item found with id ${id}. Remove duplicate items from your input and try again.`
    throw unknown(400, message, null, "input")
  }
}

/** The history: each turn's input followed by its output. */
const itemsOf = (chain: ReadonlyArray<ResponseStore.StoredResponse>): ReadonlyArray<BodyFields.Fields> =>
  chain.flatMap(({ input, response }): ReadonlyArray<BodyFields.Fields> => {
    const { output } = JSON.parse(response) as { readonly output: ReadonlyArray<BodyFields.Fields> }
    return [...(JSON.parse(input) as ReadonlyArray<BodyFields.Fields>), ...output]
  })

// =============================================================================
// Creating
// =============================================================================

/** Resolves item references in the body, within responses of the same key. */
const resolved = async (
  { responses, settings }: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields,
  ids: ReadonlyArray<string>
): Promise<BodyFields.Fields> => {
  const found = settings.responses === undefined ? [] : await responses.items(owner(context), ids)
  return Items.replaced(body, (id) => {
    const item = found[ids.indexOf(id)]
    if (item !== undefined) return JSON.parse(item) as BodyFields.Fields
    const message = `Item with id '${id.slice(0, 200)}' not found. Items are kept with the response that they belong to, for as long as it is; those of one with store: false are not. Send the item itself.`
    throw unknown(400, message, "item_not_found", "input")
  })
}

/** Whether the response is to be stored; rejects what cannot be. */
const stores = ({ settings }: GatewayContext, { previous, session, store }: Request.ResponseRequest): boolean => {
  if (settings.responses === undefined) {
    const reason = "this gateway keeps no responses; send the whole conversation as input, or use session"
    if (previous !== undefined)
      ErrorResponse.reject("previous_response_id", `is not supported: ${reason}`, "unsupported_parameter")
    if (store === true) ErrorResponse.reject("store", `must be false: ${reason}`, "unsupported_parameter")
    return false
  }
  if (session !== undefined) {
    if (previous !== undefined)
      ErrorResponse.reject("previous_response_id", "cannot be used in a session, which has its own history")
    if (store === true) ErrorResponse.reject("store", "must be false in a session, which keeps what was said")
    return false
  }
  return store ?? true
}

/** Stores a response; if that fails, the response says so. */
const keeper =
  (
    { log, responses }: GatewayContext,
    context: RequestContext,
    { items, previous }: Request.ResponseRequest,
    earlier: ReadonlyArray<BodyFields.Fields>
  ) =>
  async (response: ResponsesCodec.ResponseState): Promise<void> => {
    try {
      const draft = { owner: owner(context), id: response.id, response: JSON.stringify(response) }
      const listed = Items.listed(items)
      let outcome = await responses.put({ ...draft, previous, input: JSON.stringify(listed) })
      if (outcome === "forgotten") {
        // The previous response was there when this request began: its history is stored with this one instead.
        outcome = await responses.put({ ...draft, previous: undefined, input: JSON.stringify([...earlier, ...listed]) })
      }
      if (outcome === "kept") return
      log(`${context.id}: the response was not kept: it is too long`)
    } catch (error) {
      log(`${context.id}: the response was not kept: ${error instanceof Error ? error.message : String(error)}`)
    }
    response.store = false
  }

interface ResponseContext {
  readonly request: Request.ResponseRequest
  readonly store: boolean
  readonly earlier: ReadonlyArray<BodyFields.Fields>
}

/** The request with everything that it refers to resolved. */
const openResponse = async (
  gateway: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields
): Promise<ResponseContext> => {
  const referring = Items.references(body)
  const whole = referring.length === 0 ? body : await resolved(gateway, context, body, referring)
  const joined = Sessions.joined(gateway, context.decode(Request.decode, whole), context)
  const request = joined instanceof Promise ? await joined : joined
  const store = stores(gateway, request)
  const { previous } = request
  if (previous === undefined) return { request, store, earlier: [] }
  const chain = await gateway.responses.chain(owner(context), previous)
  if (chain === undefined) {
    throw unknown(
      400,
      `Previous response with id '${previous.slice(0, 200)}' not found.`,
      "previous_response_not_found",
      "previous_response_id"
    )
  }
  const earlier = itemsOf(chain)
  mustDiffer(earlier, request.items)
  return { request: Request.after(request, earlier), store, earlier }
}

export const create = async (
  gateway: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields
): Promise<void> => {
  const started = performance.now()
  const { request, earlier, store } = await openResponse(gateway, context, body)
  const keep = store ? keeper(gateway, context, request, earlier) : undefined
  const fleets = gateway.library.settings.defaults
  const sampling = {
    temperature: request.request.temperature ?? fleets.temperature ?? defaults.temperature,
    top_p: request.request.topP ?? fleets.topP ?? defaults.topP
  }
  const codec = ResponsesCodec.codec({ ...request.echo, ...sampling, store }, keep, request.tools)
  context.ownTime += performance.now() - started
  return dispatch(gateway, context, request, codec)
}

export const compact = async (
  gateway: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields
): Promise<void> => {
  const { request, earlier } = await openResponse(gateway, context, { ...body, store: false })
  return Compact.answer(gateway, context, request, earlier)
}

// =============================================================================
// Stored ones
// =============================================================================

/** Optional output (`include`) is always included or never available. */
const including = ["include", "include[]"]

export const read = async (gateway: GatewayContext, context: RequestContext, id: string): Promise<void> => {
  const query = Query.of(context, [...including, "stream", "starting_after", "include_obfuscation"])
  if (query.get("stream") === "true" || query.has("starting_after")) {
    ErrorResponse.reject("stream", "must be false: only whole responses are kept", "unsupported_parameter")
  }
  const response = await gateway.responses.get(owner(context), id)
  if (response === undefined) throw notFound(id)
  context.send(200, "application/json; charset=utf-8", response)
}

export const remove = async (gateway: GatewayContext, context: RequestContext, id: string): Promise<void> => {
  if (!(await gateway.responses.remove(owner(context), id))) throw notFound(id)
  context.json({ id, object: "response", deleted: true })
}

/** The full input of the model: the history before the response, and its own input. */
export const inputItems = async (gateway: GatewayContext, context: RequestContext, id: string): Promise<void> => {
  const query = Query.of(context, [...including, "after", "limit", "order"])
  const limit = Query.limit(query, 100, 20)
  const order = query.get("order") ?? "desc"
  if (order !== "asc" && order !== "desc") ErrorResponse.reject("order", "must be asc or desc")
  const chain = await gateway.responses.chain(owner(context), id)
  const last = chain?.at(-1)
  if (chain === undefined || last === undefined) throw notFound(id)
  const items = [...itemsOf(chain.slice(0, -1)), ...(JSON.parse(last.input) as ReadonlyArray<BodyFields.Fields>)]
  if (order === "desc") items.reverse()
  const after = query.get("after")
  const from = after === null ? 0 : items.findIndex((item) => item["id"] === after) + 1
  if (after !== null && from === 0)
    ErrorResponse.reject("after", `names no item of this response: '${after.slice(0, 200)}'`)
  const data = items.slice(from, from + limit)
  context.json({
    object: "list",
    data,
    first_id: data[0]?.["id"] ?? null,
    last_id: data.at(-1)?.["id"] ?? null,
    has_more: from + limit < items.length
  })
}
