import type { Json } from "./script.js"

/** The servers whose habits a fake OpenAI server can have. */
export type Flavour = "openai" | "llamacpp" | "vllm" | "ollama"

/** An error of the OpenAI API before it is written in a flavour. */
export interface Problem {
  readonly status: number
  readonly message: string
  readonly type?: string
  readonly param?: string
  readonly code?: string | null
  readonly extra?: Json
}

const known = new Set(
  (
    "model messages audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens " +
    "max_tokens metadata modalities n parallel_tool_calls prediction presence_penalty prompt_cache_key " +
    "prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier stop store stream " +
    "stream_options temperature tool_choice tools top_logprobs top_p user verbosity web_search_options"
  ).split(" ")
)

const bad = (message: string, rest: Partial<Problem> = {}): Problem => ({ status: 400, message, ...rest })

/** Why a server of this flavour refuses the body of a chat completion, if it does. */
export function checkOpenAIBody(body: Json, flavour: Flavour): Problem | undefined {
  if (typeof body !== "object" || body === null || Array.isArray(body)) return bad("The body must be a JSON object.")
  const unknown = flavour === "openai" ? Object.keys(body).filter((key) => !known.has(key)) : []
  if (unknown.length > 0) {
    return bad(`Unrecognized request argument${unknown.length > 1 ? "s" : ""} supplied: ${unknown.join(", ")}`)
  }
  if (body.model === undefined && flavour === "openai") return bad("you must provide a model parameter")
  if (!body.model && flavour === "ollama") return bad("model is required")
  if (!Array.isArray(body.messages)) {
    if (flavour === "ollama") return bad("[] is too short - 'messages'")
    if (flavour === "llamacpp") return { status: 500, message: "'messages' is required", type: "server_error" }
    return bad("Missing required parameter: 'messages'.", { param: "messages", code: "missing_required_parameter" })
  }
  if (body.messages.length === 0) {
    if (flavour === "ollama") return bad("[] is too short - 'messages'")
    if (flavour === "openai") {
      const message =
        "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty " + "array instead."
      return bad(message, { param: "messages", code: "empty_array" })
    }
  }
  if (given(body.stream_options) && body.stream !== true) {
    const openai = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
    if (flavour === "openai") return bad(openai, { param: "stream_options" })
    if (flavour === "vllm") return bad("Stream options can only be defined when `stream=True`.")
  }
  if (flavour !== "openai") return undefined
  if (given(body.max_tokens) && given(body.max_completion_tokens)) {
    return bad("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.")
  }
  for (const [i, message] of body.messages.entries()) {
    for (const [j, call] of (message?.tool_calls ?? []).entries()) {
      if (typeof call?.function?.arguments === "string") continue
      const param = `messages[${i}].tool_calls[${j}].function.arguments`
      return bad(`Invalid type for '${param}': expected a string, but got an object instead.`, {
        param,
        code: "invalid_type"
      })
    }
  }
  return undefined
}

const knownOfTexts = new Set(
  (
    "model prompt best_of echo frequency_penalty logit_bias logprobs max_tokens n presence_penalty seed stop stream " +
    "stream_options suffix temperature top_p user"
  ).split(" ")
)

/** Why a server of this flavour refuses the body of a text completion, if it does. */
export function checkTextBody(body: Json, flavour: Flavour, capabilities: ReadonlyArray<string>): Problem | undefined {
  if (typeof body !== "object" || body === null || Array.isArray(body)) return bad("The body must be a JSON object.")
  const unknown = flavour === "openai" ? Object.keys(body).filter((key) => !knownOfTexts.has(key)) : []
  if (unknown.length > 0) {
    return bad(`Unrecognized request argument${unknown.length > 1 ? "s" : ""} supplied: ${unknown.join(", ")}`)
  }
  if (body.model === undefined && flavour === "openai") return bad("you must provide a model parameter")
  if (!given(body.prompt) && flavour === "llamacpp") {
    return { status: 500, message: '"prompt" is required', type: "server_error" }
  }
  if (flavour === "openai" && /^(gpt-[45]|o\d|gpt-3\.5-turbo$)/.test(body.model)) {
    const message =
      "This is a chat model and not supported in the v1/completions endpoint. Did you mean to use v1/chat/completions?"
    return { status: 404, message, type: "invalid_request_error", param: "model" }
  }
  if (given(body.logprobs) && typeof body.logprobs !== "number") return bad("Invalid type for 'logprobs'.")
  if (!given(body.suffix)) return undefined
  if (flavour === "vllm") return bad("suffix is not currently supported")
  if (flavour === "llamacpp") return { status: 500, message: "Unsupported param: suffix", type: "server_error" }
  if (flavour === "ollama" && body.suffix !== "" && !capabilities.includes("insert")) {
    return bad(`registry.ollama.ai/library/${body.model} does not support insert`)
  }
  return undefined
}

const given = (value: Json) => value !== undefined && value !== null
