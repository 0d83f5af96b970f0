/**
 * Call options set for a whole fleet: they apply if a call does not set them.
 *
 * @since 0.2.0
 */
import * as Schema from "effect/Schema"
import * as Struct from "effect/Struct"
import * as ChatRequest from "./ChatRequest.js"
import type * as EmbedRequest from "./EmbedRequest.js"

const fields = Struct.pick(
  ChatRequest.Options.fields,
  "temperature",
  "topP",
  "maxTokens",
  "stop",
  "seed",
  "frequencyPenalty",
  "presencePenalty",
  "topK",
  "minP",
  "repeatPenalty",
  "keepAlive",
  "think",
  "options",
  "extra",
  "routing",
  "timeout",
  "connectTimeout",
  "firstTokenTimeout",
  "loadTimeout",
  "idleTimeout",
  "deadline",
  "maxRetries",
  "retryBackoff",
  "onInterrupt",
  "hedge",
  "private"
)

/**
 * The options that can be set for a fleet, with the ranges that they have in a call (see `ChatRequest.Options`). Times
 * are in milliseconds.
 *
 * - For chats and embeddings: `routing`, `timeout`, `connectTimeout`, `loadTimeout`, `deadline`, `maxRetries`,
 *   `retryBackoff`, `keepAlive`, `options`, `private`
 * - For chats: the others
 *
 * `keepAlive` and `options` from here are optional: servers that do not support them are asked without them. `options`
 * and `extra` are merged with those of a call, name by name.
 *
 * @since 0.2.0
 * @category models
 */
export const CallDefaults = Schema.Struct(fields)
/**
 * @since 0.2.0
 * @category models
 */
export interface CallDefaults extends Schema.Schema.Type<typeof CallDefaults> {}

/**
 * Options of calls that a fleet has a setting of its own for, or that make no sense for all calls alike, with the reason.
 *
 * @since 0.2.0
 * @category constants
 */
export const excludedOptions: { readonly [name: string]: string } = {
  model: "has a setting of its own: model",
  cache: "has a setting of its own: cache",
  persona: "must be chosen by each call",
  system: "must be given with each call",
  tools: "must be given with each call",
  toolChoice: "must be given with each call",
  raw: "must be given with each call",
  suffix: "must be given with each call",
  session: "must be given with each call",
  owner: "must be given with each call",
  priority: "must be given with each call"
}

/** Given options take precedence; objects are merged name by name. */
const joined = <A extends object>(given: A, defaults: object, names: Iterable<string>): A => {
  const all: Record<string, unknown> = { ...(given as Record<string, unknown>) }
  const mine = given as Record<string, unknown>
  const theirs = defaults as Record<string, unknown>
  for (const name of names) {
    const [own, other] = [mine[name], theirs[name]]
    if (other === undefined) continue
    if (own === undefined) all[name] = other
    else if (name === "options" || name === "extra") all[name] = { ...(other as object), ...(own as object) }
  }
  return all as A
}

/** Ollama options that come only from defaults do not exclude other servers. */
const isLenient = (
  given: { readonly keepAlive?: unknown; readonly options?: unknown },
  defaults: CallDefaults
): boolean =>
  given.keepAlive === undefined &&
  given.options === undefined &&
  (defaults.keepAlive !== undefined || defaults.options !== undefined)

const isEmpty = (defaults: CallDefaults): boolean => {
  for (const _ in defaults) return false
  return true
}

const lenient = { lenient: true } as const

/**
 * Adds the fleet's defaults to the options of a chat.
 *
 * @since 0.2.0
 * @category combinators
 */
export const forChat = (
  options: ChatRequest.CheckedOptions,
  defaults: CallDefaults
): ChatRequest.CheckedOptions & { readonly lenient?: true | undefined } => {
  if (isEmpty(defaults)) return options
  // A text completion has no template that could enable thinking.
  const { think: _, ...plainly } = defaults
  const fitting = ChatRequest.completes(options) ? plainly : defaults
  const all = joined(options, fitting, Object.keys(fitting))
  return isLenient(options, defaults) ? { ...all, ...lenient } : all
}

const embedNames = [
  "routing",
  "timeout",
  "connectTimeout",
  "loadTimeout",
  "deadline",
  "maxRetries",
  "retryBackoff",
  "keepAlive",
  "options",
  "private"
] as const

/**
 * Adds the fleet's defaults to the options of an embedding.
 *
 * @since 0.2.0
 * @category combinators
 */
export const forEmbedding = (
  options: EmbedRequest.CheckedOptions,
  defaults: CallDefaults
): EmbedRequest.CheckedOptions & { readonly lenient?: true | undefined } => {
  if (isEmpty(defaults)) return options
  const all = joined(options, defaults, embedNames)
  return isLenient(options, defaults) ? { ...all, ...lenient } : all
}

const requestNames = [...ChatRequest.sampling, "keepAlive", "options", "extra"] as const

/**
 * Adds the fleet's defaults to a request made without options.
 *
 * @since 0.2.0
 * @category combinators
 */
export const forRequest = (request: ChatRequest.ChatRequest, defaults: CallDefaults): ChatRequest.ChatRequest => {
  if (isEmpty(defaults)) return request
  const all = joined(request, defaults, requestNames)
  const { stop, think } = defaults
  return {
    ...all,
    stop: request.stop.length > 0 || stop === undefined ? request.stop : typeof stop === "string" ? [stop] : stop,
    think: request.think ?? (ChatRequest.completes(request) ? undefined : think),
    ...(isLenient(request, defaults) ? lenient : {})
  }
}

/**
 * Adds the fleet's defaults to an embedding request made without options.
 *
 * @since 0.2.0
 * @category combinators
 */
export const forEmbedRequest = <A extends Omit<EmbedRequest.EmbedRequest, "model">>(
  request: A,
  defaults: CallDefaults
): A => {
  if (isEmpty(defaults)) return request
  const all = joined(request, defaults, ["keepAlive", "options"])
  return isLenient(request, defaults) ? { ...all, ...lenient } : all
}
