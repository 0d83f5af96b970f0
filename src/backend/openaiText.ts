/**
 * The older endpoint of the OpenAI API, as vLLM, llama.cpp's server and many others have it: `POST /v1/completions`,
 * which continues a text without a chat template.
 */

import { type ChatRequest, promptOf } from "../ChatRequest.js"
import type { Unsupported } from "../Errors.js"
import * as Body from "./openaiBody.js"

export const path = "/completions"

/** The body of `POST /v1/completions`. Undefined fields are not sent. */
export const body = (request: ChatRequest): Body.Body => {
  const { logprobs, maxTokens, suffix } = request
  const body = Body.make(request)
  body["prompt"] = promptOf(request)
  if (suffix !== undefined) body["suffix"] = suffix
  if (maxTokens !== undefined) body["max_tokens"] = maxTokens
  if (logprobs !== undefined) body["logprobs"] = logprobs
  return body
}

const isObject = (value: unknown): value is { readonly [key: string]: unknown } =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/**
 * Log probabilities in the form of `/v1/chat/completions`: llama.cpp uses it here too; others send four parallel lists
 * instead.
 */
export const likelihoods = (reported: unknown): ReadonlyArray<unknown> | undefined => {
  if (!isObject(reported)) return undefined
  const { content, token_logprobs, tokens, top_logprobs } = reported
  if (Array.isArray(content)) return content
  if (!Array.isArray(tokens) || !Array.isArray(token_logprobs)) return undefined
  const tops: ReadonlyArray<unknown> = Array.isArray(top_logprobs) ? top_logprobs : []
  return tokens.map((token: unknown, i) => {
    const top = tops[i]
    return {
      token,
      logprob: token_logprobs[i],
      top_logprobs: isObject(top) ? Object.entries(top).map(([token, logprob]) => ({ token, logprob })) : []
    }
  })
}

/**
 * Ollama has this endpoint too, but applies the chat template there. Its native address has an endpoint that does not.
 */
export const isTemplated = (chunk: { readonly [key: string]: unknown }): boolean =>
  chunk["system_fingerprint"] === "fp_ollama"

export const templated: Unsupported = {
  field: "raw",
  reason:
    "Ollama's /v1/completions puts the text into the model's chat template; name this server by its address without /v1"
}
