/** A request of any API in one common form. */
import type { ChatRequest, CheckedOptions, Routing } from "../../ChatRequest.js"
import { Routing as RoutingSchema } from "../../ChatRequest.js"
import * as ExtraParameters from "../../internal/extraParameters.js"
import { isKeepAlive } from "../../internal/optionSchemas.js"
import * as ToolArguments from "../../internal/toolArguments.js"
import * as Message from "../../Message.js"
import { tokensOf } from "../../modelSelection/needs.js"
import * as BodyFields from "../http/body.js"
import { reject } from "../http/errorResponse.js"
import type { RateDemand } from "../rateLimits.js"

/** - `session`, `routing`, `cache`: extensions of this gateway */
export interface GatewayRequest {
  /** As named by the client; `undefined` if it named none. */
  readonly model: string | undefined
  /** What a server is sent; its model is as named, or empty. */
  readonly request: ChatRequest
  /** The messages of each prompt if there are several; those of `request` are the first. */
  readonly prompts?: ReadonlyArray<ReadonlyArray<Message.Message>> | undefined
  readonly stream: boolean
  /** Number of answers to each prompt. */
  readonly n: number
  /** An answer may contain at most one tool call. */
  readonly oneTool: boolean
  readonly session: string | undefined
  readonly routing: Routing | undefined
  readonly cache: CheckedOptions["cache"]
  /** The client's request, if the fleet's defaults were added to it. */
  readonly original?: ChatRequest | undefined
  /** Models that must not be asked to think. */
  readonly withoutThinking?: ReadonlySet<string> | undefined
}

/** Maximum length of a model name, in characters. */
const longestName = 1_000

/** The requested model, if any. */
export const model = (body: BodyFields.Fields, name = "model"): string | undefined => {
  const value = BodyFields.text(body, name)
  if (value !== undefined && value.length > longestName) {
    reject(name, `must not be longer than ${longestName} characters`)
  }
  return value
}

/** Total number of answers; those to the first prompt come first. */
export const choices = ({ n, prompts }: GatewayRequest): number => (prompts === undefined ? n : n * prompts.length)

/** The prompt that an answer belongs to. */
export const promptOf = ({ n }: Pick<GatewayRequest, "n">, choice: number): number => Math.floor(choice / n)

/** What a server is sent for one answer. */
export const requestOf = ({ n, prompts, request }: GatewayRequest, choice: number): ChatRequest => {
  const messages = prompts?.[promptOf({ n }, choice)] ?? request.messages
  const which = choice % n
  // With one seed, all answers would be the same.
  const seed = request.seed === undefined || which === 0 ? request.seed : request.seed + which
  return messages === request.messages && seed === request.seed ? request : { ...request, messages, seed }
}

/** Sampling parameters, and what is done with the model. */
export type Sampling = Pick<
  ChatRequest,
  | "temperature"
  | "topP"
  | "stop"
  | "seed"
  | "frequencyPenalty"
  | "presencePenalty"
  | "topK"
  | "minP"
  | "repeatPenalty"
  | "logitBias"
  | "keepAlive"
  | "think"
  | "options"
  | "extra"
>

/** Builds requests of one shape, whichever endpoint they came from. */
export const request = (
  model: string | undefined,
  messages: ReadonlyArray<Message.Message>,
  sampling: Sampling,
  rest: Pick<ChatRequest, "maxTokens" | "logprobs" | "format"> &
    Partial<Pick<ChatRequest, "tools" | "toolChoice" | "raw" | "suffix">>
): ChatRequest => ({
  model: model ?? "",
  messages,
  temperature: sampling.temperature,
  topP: sampling.topP,
  maxTokens: rest.maxTokens,
  stop: sampling.stop,
  seed: sampling.seed,
  frequencyPenalty: sampling.frequencyPenalty,
  presencePenalty: sampling.presencePenalty,
  topK: sampling.topK,
  minP: sampling.minP,
  repeatPenalty: sampling.repeatPenalty,
  logprobs: rest.logprobs,
  logitBias: sampling.logitBias,
  tools: rest.tools ?? [],
  toolChoice: rest.toolChoice,
  keepAlive: sampling.keepAlive,
  think: sampling.think,
  options: sampling.options,
  extra: sampling.extra,
  format: rest.format,
  raw: rest.raw,
  suffix: rest.suffix
})

/** The fields that `extras` reads. */
export const extraNames = ["session", "routing", "cache"] as const

/** Extensions that every endpoint accepts. */
export const extras = (body: BodyFields.Fields): Pick<GatewayRequest, (typeof extraNames)[number]> => {
  const cache = body["cache"]
  let kept: CheckedOptions["cache"]
  if (typeof cache === "boolean") kept = cache
  else if (cache !== undefined && cache !== null) {
    const ttl = BodyFields.number(
      BodyFields.object(body, "cache") ?? {},
      "ttl",
      1,
      Number.POSITIVE_INFINITY,
      "cache.ttl"
    )
    kept = ttl === undefined ? true : { ttl }
  }
  return {
    session: BodyFields.text(body, "session"),
    routing: BodyFields.oneOf(body, "routing", RoutingSchema.literals),
    cache: kept
  }
}

/** How long Ollama keeps the model loaded: seconds, or a duration. */
export const keepAlive = (body: BodyFields.Fields): number | string | undefined => {
  const value = body["keep_alive"]
  if (value === undefined || value === null) return undefined
  if ((typeof value === "number" || typeof value === "string") && isKeepAlive(value)) return value
  return reject("keep_alive", "must be a number of seconds or a duration such as '5m'")
}

/** Ollama's options; `num_ctx` may also stand outside them. */
export const options = (body: BodyFields.Fields): ChatRequest["options"] => {
  const given = BodyFields.json(body, "options")
  const context = BodyFields.whole(body, "num_ctx", 1)
  return context === undefined ? given : { ...given, num_ctx: context }
}

/** The arguments of a tool call as a client sends them back. Whatever is not a JSON object is wrapped in one. */
export const toolArguments = (given: unknown, at: string): BodyFields.Fields =>
  BodyFields.shallow(ToolArguments.object(ToolArguments.read(given)), at)

/** Parameters that only some servers support: see `ChatRequest.Extra`. Other names are not checked. */
export const extra = (body: BodyFields.Fields): ChatRequest["extra"] => {
  let found: { [name: string]: unknown } | undefined
  for (const name in body) {
    const value = body[name]
    if (!ExtraParameters.has(name) || value === null || value === undefined) continue
    if (!ExtraParameters.fits(name, value)) reject(name, "is of the wrong type")
    if (typeof value === "object") BodyFields.shallow(value as BodyFields.Fields, name)
    found ??= {}
    found[name] = value
  }
  return found
}

/** The parameters that only Ollama servers support, under their API names. */
export const ollamaOnly = ({
  keepAlive,
  options,
  truncate
}: Pick<ChatRequest, "keepAlive" | "options" | "truncate">): ReadonlyArray<string> => [
  ...(keepAlive === undefined ? [] : ["keep_alive"]),
  ...(truncate === true ? ["truncate"] : []),
  ...Object.keys(options ?? {}).map((name) => `options.${name}`)
]

const toolNames = /^[a-zA-Z0-9_.:-]{1,128}$/

/** The name of a tool. */
export const toolName = (tool: BodyFields.Fields, at: string): string => {
  const name = BodyFields.required(tool, "name", `${at}.name`)
  if (!toolNames.test(name))
    reject(`${at}.name`, "must be 1 to 128 letters, digits, dots, colons, dashes or underscores")
  return name
}

const levels = ["low", "medium", "high", "max"] as const

export const think = (body: BodyFields.Fields): ChatRequest["think"] =>
  typeof body["think"] === "boolean" ? body["think"] : BodyFields.oneOf(body, "think", levels)

const mediaTypes: ReadonlyArray<readonly [start: string, type: string]> = [
  ["iVBOR", "image/png"],
  ["/9j/", "image/jpeg"],
  ["R0lGOD", "image/gif"],
  ["UklGR", "image/webp"]
]

/** A base64 image; its type is detected from its first bytes. */
export const image = (data: string): Message.ImagePart => ({
  type: "image",
  data,
  mediaType: mediaTypes.find(([start]) => data.startsWith(start))?.[1] ?? "image/png"
})

/** What it takes of its key's rate limits: a prompt counts once, however many answers it has. */
export const demandOf = (gatewayRequest: GatewayRequest): RateDemand => {
  const { n, prompts, request } = gatewayRequest
  let characters = (request.suffix?.length ?? 0) + (request.template?.length ?? 0)
  for (const messages of prompts ?? [request.messages]) {
    for (const message of messages) characters += Message.text(message).length
  }
  return {
    answers: choices(gatewayRequest),
    param: n > 1 ? "n" : "prompt",
    prompt: tokensOf(characters),
    maxTokens: request.maxTokens
  }
}
