/**
 * Responses that are kept: made, gone on from, read again, listed and deleted. One belongs to the API key that it was
 * made with: to others it does not exist.
 *
 * @since 0.1.0
 */
import { defaults } from "../../../../ChatRequest.js"
import type { House } from "../../../GatewayContext.js"
import type * as Fields from "../../../http/body.js"
import * as Problem from "../../../http/errorResponse.js"
import * as Query from "../../../http/query.js"
import type { Exchange } from "../../../http/RequestContext.js"
import { relay } from "../../../pipeline/dispatch.js"
import type * as Store from "../../../ResponseStore.js"
import * as Sessions from "../../aicortex/sessions.js"
import * as Compact from "./compact.js"
import * as Events from "./events.js"
import * as Items from "./items.js"
import * as Request from "./request.js"

const owner = ({ caller }: Exchange): string => caller ?? ""

/** As OpenAI says it, because clients look for these words. */
const unknown = (status: number, message: string, code: string | null, param: string | null): Problem.Refusal =>
  new Problem.Refusal({ ...Problem.make(status, message, code, param), type: "invalid_request_error" })

const notFound = (id: string): Problem.Refusal =>
  unknown(404, `Response with id '${id.slice(0, 200)}' not found.`, null, null)

/** What is there already is not said again. */
const mustDiffer = (earlier: ReadonlyArray<Fields.Fields>, items: ReadonlyArray<Fields.Fields>): void => {
  const known = new Set(earlier.map(({ id }) => id))
  for (const { id } of items) {
    if (id === undefined || id === null || !known.has(id)) continue
    const message = `Duplicate item found with id ${id}. Remove duplicate items from your input and try again.`
    throw unknown(400, message, null, "input")
  }
}

/** What was said before: each turn's input, and then its output. */
const itemsOf = (chain: ReadonlyArray<Store.Kept>): ReadonlyArray<Fields.Fields> =>
  chain.flatMap(({ input, response }): ReadonlyArray<Fields.Fields> => {
    const { output } = JSON.parse(response) as { readonly output: ReadonlyArray<Fields.Fields> }
    return [...(JSON.parse(input) as ReadonlyArray<Fields.Fields>), ...output]
  })

// =============================================================================
// making one
// =============================================================================

/** The body with items in the place of references to them: those of responses that were made with the same key. */
const resolved = async (
  { responses, settings }: House,
  exchange: Exchange,
  body: Fields.Fields,
  ids: ReadonlyArray<string>
): Promise<Fields.Fields> => {
  const found = settings.responses === undefined ? [] : await responses.items(owner(exchange), ids)
  return Items.replaced(body, (id) => {
    const item = found[ids.indexOf(id)]
    if (item !== undefined) return JSON.parse(item) as Fields.Fields
    const message = `Item with id '${id.slice(0, 200)}' not found. Items are kept with the response that they belong to, for as long as it is; those of one with store: false are not. Send the item itself.`
    throw unknown(400, message, "item_not_found", "input")
  })
}

/** Whether the response is to be kept; refuses what cannot be. */
const stores = ({ settings }: House, { previous, session, store }: Request.Response): boolean => {
  if (settings.responses === undefined) {
    const reason = "this gateway keeps no responses; send the whole conversation as input, or use session"
    if (previous !== undefined)
      Problem.refuse("previous_response_id", `is not supported: ${reason}`, "unsupported_parameter")
    if (store === true) Problem.refuse("store", `must be false: ${reason}`, "unsupported_parameter")
    return false
  }
  if (session !== undefined) {
    if (previous !== undefined)
      Problem.refuse("previous_response_id", "cannot be used in a session, which goes on by itself")
    if (store === true) Problem.refuse("store", "must be false in a session, which keeps what was said")
    return false
  }
  return store ?? true
}

/** Keeps a response; where that is not possible, the client is told that it was not. */
const keeper =
  (
    { log, responses }: House,
    exchange: Exchange,
    { items, previous }: Request.Response,
    earlier: ReadonlyArray<Fields.Fields>
  ) =>
  async (response: Events.Told): Promise<void> => {
    try {
      const draft = { owner: owner(exchange), id: response.id, response: JSON.stringify(response) }
      const listed = Items.listed(items)
      let outcome = await responses.put({ ...draft, previous, input: JSON.stringify(listed) })
      if (outcome === "forgotten") {
        // It was there when this one was asked for: what was said before is kept with this one then.
        outcome = await responses.put({ ...draft, previous: undefined, input: JSON.stringify([...earlier, ...listed]) })
      }
      if (outcome === "kept") return
      log(`${exchange.id}: the response was not kept: it is too long`)
    } catch (error) {
      log(`${exchange.id}: the response was not kept: ${error instanceof Error ? error.message : String(error)}`)
    }
    response.store = false
  }

interface Opened {
  readonly asked: Request.Response
  readonly store: boolean
  readonly earlier: ReadonlyArray<Fields.Fields>
}

/** What is asked for, with all that it refers to. */
const opened = async (house: House, exchange: Exchange, body: Fields.Fields): Promise<Opened> => {
  const referring = Items.references(body)
  const whole = referring.length === 0 ? body : await resolved(house, exchange, body, referring)
  const asked = Sessions.joined(exchange.decoded(Request.decode, whole), exchange)
  const store = stores(house, asked)
  const { previous } = asked
  if (previous === undefined) return { asked, store, earlier: [] }
  const chain = await house.responses.chain(owner(exchange), previous)
  if (chain === undefined) {
    throw unknown(
      400,
      `Previous response with id '${previous.slice(0, 200)}' not found.`,
      "previous_response_not_found",
      "previous_response_id"
    )
  }
  const earlier = itemsOf(chain)
  mustDiffer(earlier, asked.items)
  return { asked: Request.after(asked, earlier), store, earlier }
}

/**
 * @since 0.1.0
 * @category handlers
 */
export const create = async (house: House, exchange: Exchange, body: Fields.Fields): Promise<void> => {
  const started = performance.now()
  const { asked, earlier, store } = await opened(house, exchange, body)
  const keep = store ? keeper(house, exchange, asked, earlier) : undefined
  const fleets = house.library.settings.defaults
  const sampling = {
    temperature: asked.request.temperature ?? fleets.temperature ?? defaults.temperature,
    top_p: asked.request.topP ?? fleets.topP ?? defaults.topP
  }
  const codec = Events.codec({ ...asked.echo, ...sampling, store }, keep, asked.tools)
  exchange.own += performance.now() - started
  return relay(house, exchange, asked, codec)
}

/**
 * @since 0.2.0
 * @category handlers
 */
export const compact = async (house: House, exchange: Exchange, body: Fields.Fields): Promise<void> => {
  const { asked, earlier } = await opened(house, exchange, { ...body, store: false })
  return Compact.answer(house, exchange, asked, earlier)
}

// =============================================================================
// those that were made
// =============================================================================

/** What is asked for besides is told in any case, or never. */
const including = ["include", "include[]"]

/**
 * @since 0.1.0
 * @category handlers
 */
export const read = async (house: House, exchange: Exchange, id: string): Promise<void> => {
  const asked = Query.of(exchange, [...including, "stream", "starting_after", "include_obfuscation"])
  if (asked.get("stream") === "true" || asked.has("starting_after")) {
    Problem.refuse("stream", "must be false: only whole responses are kept", "unsupported_parameter")
  }
  const response = await house.responses.get(owner(exchange), id)
  if (response === undefined) throw notFound(id)
  exchange.send(200, "application/json; charset=utf-8", response)
}

/**
 * @since 0.1.0
 * @category handlers
 */
export const remove = async (house: House, exchange: Exchange, id: string): Promise<void> => {
  if (!(await house.responses.remove(owner(exchange), id))) throw notFound(id)
  exchange.json({ id, object: "response", deleted: true })
}

/**
 * All that the model was given: what was said before the response, and its own input.
 *
 * @since 0.1.0
 * @category handlers
 */
export const inputItems = async (house: House, exchange: Exchange, id: string): Promise<void> => {
  const asked = Query.of(exchange, [...including, "after", "limit", "order"])
  const limit = Query.limit(asked, 100, 20)
  const order = asked.get("order") ?? "desc"
  if (order !== "asc" && order !== "desc") Problem.refuse("order", "must be asc or desc")
  const chain = await house.responses.chain(owner(exchange), id)
  const last = chain?.at(-1)
  if (chain === undefined || last === undefined) throw notFound(id)
  const items = [...itemsOf(chain.slice(0, -1)), ...(JSON.parse(last.input) as ReadonlyArray<Fields.Fields>)]
  if (order === "desc") items.reverse()
  const after = asked.get("after")
  const from = after === null ? 0 : items.findIndex((item) => item["id"] === after) + 1
  if (after !== null && from === 0) Problem.refuse("after", `names no item of this response: '${after.slice(0, 200)}'`)
  const data = items.slice(from, from + limit)
  exchange.json({
    object: "list",
    data,
    first_id: data[0]?.["id"] ?? null,
    last_id: data.at(-1)?.["id"] ?? null,
    has_more: from + limit < items.length
  })
}
