/** A request of any API in one common form. */
import type { ChatRequest, CheckedOptions, Routing } from "../../ChatRequest.js"
import * as ToolArguments from "../../internal/toolArguments.js"
import * as Message from "../../Message.js"
import { tokensOf } from "../../modelSelection/needs.js"
import * as BodyFields from "../http/body.js"
import type { RateDemand } from "../rateLimits.js"

/** A client's names of options, where they differ from the usual ones. */
export interface OptionNames {
  readonly [option: string]: string
}

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
  /** What the client calls the options; by default as in OpenAI's chat. */
  readonly names?: OptionNames | undefined
  /** Models that must not be asked to think. */
  readonly withoutThinking?: ReadonlySet<string> | undefined
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

/** Sampling parameters, and how long the model stays loaded. */
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
  defaultTemperature: undefined,
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

/** The arguments of a tool call as a client sends them back. Whatever is not a JSON object is wrapped in one. */
export const toolArguments = (given: unknown, at: string): BodyFields.Fields =>
  BodyFields.shallow(ToolArguments.object(ToolArguments.read(given)), at)

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

/** Its demand on the key's rate limits: a prompt counts once for all its answers. */
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
