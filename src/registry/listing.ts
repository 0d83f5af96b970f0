/** What servers say of their models: lists in the form of each protocol, read. */
import { isObject } from "../internal/isObject.js"
import * as Model from "../Model.js"
import type { Protocol } from "../Server.js"
import { toInfo } from "./catalogue.js"

// =============================================================================
// Models
// =============================================================================

/** A server's protocol, and its models and their digests by canonical name. */
export interface Listing {
  readonly protocol: Protocol
  readonly models: ReadonlyMap<string, Model.ModelInfo>
  readonly digests: ReadonlyMap<string, string>
  /** The address of the API, if not the default one. */
  readonly api?: string | undefined
}

interface ListingProblem {
  readonly reason: string
  /** Whether the server answered at all: then another path may be right. */
  readonly answered: boolean
  /** Whether it may only have been too slow. */
  readonly silent?: boolean
  /** Whether its list may be at another path. */
  readonly misplaced?: boolean
  /** The address at which chats are still accepted. */
  readonly api?: string | undefined
  /** Whether the error has the form of Anthropic's API. */
  readonly isAnthropic?: boolean
}

/**
 * Why a server's list could not be read; `reason` completes "the server …". Not an `Error`: many servers may be off,
 * and their stack traces are never read.
 */
export class ListingFailed implements ListingProblem {
  readonly _tag = "ListingFailed"
  readonly reason: string
  readonly answered: boolean
  readonly silent: boolean
  readonly misplaced: boolean
  readonly api: string | undefined
  readonly isAnthropic: boolean

  constructor({ answered, api, isAnthropic = false, misplaced = false, reason, silent = false }: ListingProblem) {
    this.reason = reason
    this.answered = answered
    this.silent = silent
    this.misplaced = misplaced
    this.api = api
    this.isAnthropic = isAnthropic
  }
}

// =============================================================================
// Bodies
// =============================================================================

const quiet = () => {}

/** Context lengths, under the names of vLLM, OpenRouter, LM Studio and llama.cpp. */
const contextOf = (item: { readonly [key: string]: unknown }): unknown =>
  item["max_model_len"] ??
  item["context_length"] ??
  item["max_context_length"] ??
  (isObject(item["meta"]) ? (item["meta"]["n_ctx"] ?? item["meta"]["n_ctx_train"]) : undefined)

/** The models of a list, if it is one: some entries must name a model, unless it is empty. */
export const listing = (protocol: Protocol, list: unknown, nameKey: string): Listing | undefined => {
  if (!Array.isArray(list)) return undefined
  const models = new Map<string, Model.ModelInfo>()
  const digests = new Map<string, string>()
  for (const item of list) {
    if (!isObject(item)) continue
    const info = toInfo(
      nameKey === "id" ? { ...item, model_name: item["id"], context_length: contextOf(item) } : item,
      undefined,
      quiet
    )
    if (info === undefined) continue
    const key = Model.canonical(info.model_name)
    models.set(key, info)
    const digest = item["digest"]
    if (typeof digest === "string" && digest !== "") digests.set(key, digest)
  }
  return list.length > 0 && models.size === 0 ? undefined : { protocol, models, digests }
}

/**
 * Reads an answer to `/api/tags`. llama.cpp's server answers there too, although it speaks OpenAI's protocol: its
 * answer contains both lists.
 */
export const readTags = (body: unknown): Listing | undefined => {
  if (!isObject(body)) return undefined
  if (body["object"] === "list" && Array.isArray(body["data"])) return readOpenAi(body)
  return "models" in body ? listing("ollama", body["models"] ?? [], "name") : undefined
}

export const readOpenAi = (body: unknown): Listing | undefined => {
  if (Array.isArray(body)) return listing("openai", body, "id")
  if (!isObject(body)) return undefined
  return listing("openai", body["data"] ?? (body["object"] === "list" ? [] : undefined), "id")
}

// =============================================================================
// Loaded models
// =============================================================================

/** A loaded model: until when (milliseconds since the epoch), and with how much context, in tokens. */
export interface Loaded {
  readonly until: number
  readonly contextLength: number | undefined
}

export const readLoaded = (body: unknown): ReadonlyMap<string, Loaded> | undefined => {
  const list = isObject(body) ? body["models"] : undefined
  if (!Array.isArray(list)) return undefined
  const loaded = new Map<string, Loaded>()
  for (const item of list) {
    if (!isObject(item) || typeof item["name"] !== "string") continue
    const until = Date.parse(String(item["expires_at"]))
    const length = item["context_length"]
    loaded.set(item["name"], {
      until: Number.isNaN(until) ? Number.POSITIVE_INFINITY : until,
      contextLength: typeof length === "number" && length > 0 ? length : undefined
    })
  }
  return loaded
}
