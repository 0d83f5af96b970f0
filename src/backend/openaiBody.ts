/** Request fields that OpenAI's endpoints share. */
import type { ChatRequest } from "../ChatRequest.js"
import * as ExtraParameters from "../internal/extraParameters.js"

/** The fields of a body. */
export interface Body {
  [field: string]: unknown
}

/**
 * The body of a streamed request: the model and the sampling parameters. Only fields that are set are included.
 *
 * `topK`, `minP` and `repeatPenalty` are sent as `top_k`, `min_p`, and both `repeat_penalty` (llama.cpp) and
 * `repetition_penalty` (vLLM). `extra` is sent unchanged; OpenAI's own servers are known to reject it.
 */
export const make = (request: ChatRequest, isOpenAI = false): Body => {
  const { extra, frequencyPenalty, logitBias, minP, presencePenalty, repeatPenalty, seed, stop, topK } = request
  const body: Body = {
    model: request.model,
    stream: true,
    stream_options: { include_usage: true },
    temperature: request.temperature,
    top_p: request.topP
  }
  if (stop.length > 0) body["stop"] = stop
  if (seed !== undefined) body["seed"] = seed
  if (frequencyPenalty !== undefined) body["frequency_penalty"] = frequencyPenalty
  if (presencePenalty !== undefined) body["presence_penalty"] = presencePenalty
  if (topK !== undefined) body["top_k"] = topK
  if (minP !== undefined) body["min_p"] = minP
  if (repeatPenalty !== undefined) {
    body["repeat_penalty"] = repeatPenalty
    body["repetition_penalty"] = repeatPenalty
  }
  if (logitBias !== undefined) body["logit_bias"] = logitBias
  if (extra !== undefined) {
    for (const name in extra) {
      if (isOpenAI && ExtraParameters.isOptional(name) && name !== "verbosity") continue
      body[name] = extra[name]
    }
  }
  return body
}
