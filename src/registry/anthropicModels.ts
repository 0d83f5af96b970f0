/** The list of models of Anthropic's API: `GET /v1/models`. */
import { isObject } from "../internal/isObject.js"

type Json = { readonly [key: string]: unknown }

/** No list is longer. */
export const maxPages = 100

/** The address of a page: the first one, or that after a model. */
export const pageOf = (base: string, after: string | undefined): string =>
  `${base}/models?limit=1000${after === undefined ? "" : `&after_id=${encodeURIComponent(after)}`}`

/** Whether the body of a response is an error of this API: `{"type":"error","error":{"type":…}}`. */
export const isError = (text: string): boolean => {
  try {
    const body: unknown = JSON.parse(text)
    return (
      isObject(body) && body["type"] === "error" && isObject(body["error"]) && typeof body["error"]["type"] === "string"
    )
  } catch {
    return false
  }
}

/** The models of one page, and after which the next one begins. */
export interface Page {
  readonly data: ReadonlyArray<unknown>
  readonly next: string | undefined
}

/** A page, if it is one. */
export const readPage = (body: unknown): Page | undefined => {
  if (!isObject(body) || !Array.isArray(body["data"])) return undefined
  const { data, has_more, last_id } = body
  return { data, next: has_more === true && typeof last_id === "string" && last_id !== "" ? last_id : undefined }
}

const isSupported = (capabilities: Json, name: string): boolean => {
  const one = capabilities[name]
  return isObject(one) && one["supported"] === true
}

/** Every Claude model calls tools. */
const capabilitiesOf = (id: unknown, reported: unknown): ReadonlyArray<string> | undefined => {
  if (isObject(reported)) {
    return [
      "completion",
      "tools",
      ...(isSupported(reported, "image_input") ? ["vision"] : []),
      ...(isSupported(reported, "thinking") ? ["thinking"] : [])
    ]
  }
  return typeof id === "string" && id.includes("claude-") ? ["completion", "tools", "vision"] : undefined
}

/** A model of the list as a record of the registry. A retired one is none: it cannot be asked. */
export const record = (item: unknown): unknown => {
  if (!isObject(item) || item["lifecycle"] === "retired") return undefined
  const { capabilities, created_at, display_name, id, max_input_tokens, max_tokens } = item
  return {
    name: id,
    capabilities: capabilitiesOf(id, capabilities),
    context_length: max_input_tokens,
    max_output_tokens: max_tokens,
    display_name,
    created_at
  }
}
