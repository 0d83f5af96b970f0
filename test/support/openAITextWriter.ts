import { goJson } from "./ollamaChecks.js"
import type { Flavour } from "./openAIChecks.js"
import { errorBody, fingerprints, serverError } from "./openAIWriter.js"
import type { Frame } from "./output.js"
import { type Json, likelihood, type Script } from "./script.js"

/** Writes one completed text as a flavour does: the events of a stream, a whole body, or the error inside a stream. */
export function makeTextWriter(flavour: Flavour, model: string, said: Script, loadMs: number) {
  const encode = flavour === "ollama" ? goJson : (value: Json) => JSON.stringify(value)
  const usage = {
    prompt_tokens: said.promptTokens,
    completion_tokens: said.completionTokens,
    total_tokens: said.promptTokens + said.completionTokens
  }
  const common = {
    id: `${flavour === "llamacpp" ? "chatcmpl" : "cmpl"}-${Math.random().toString(36).slice(2)}`,
    object: "text_completion",
    created: Math.floor(Date.now() / 1000),
    model,
    ...(flavour === "vllm" ? {} : { system_fingerprint: fingerprints[flavour] })
  }
  const timings = { prompt_n: said.promptTokens, prompt_ms: Math.max(loadMs, 0.001), predicted_per_second: 100 }
  const logprobs = (tokens: ReadonlyArray<string>, top: Json): Json => {
    if (typeof top !== "number") return null
    if (flavour === "llamacpp") return top > 0 ? { content: tokens.map((token) => likelihood(token, top)) } : null
    const all = tokens.map((token) => likelihood(token, top))
    const offsets = tokens.map((_, i) => tokens.slice(0, i).join("").length)
    const others = (one: Json) => one.top_logprobs.map((other: Json) => [other.token, other.logprob])
    return {
      tokens,
      token_logprobs: all.map(({ logprob }) => logprob),
      top_logprobs: all.map((one) => Object.fromEntries([[one.token, one.logprob], ...others(one)])),
      text_offset: offsets
    }
  }
  const choice = (text: string, finish_reason: string | null, likely: Json = null) => ({
    text,
    index: 0,
    ...(flavour === "ollama" ? {} : { logprobs: likely }),
    finish_reason,
    ...(flavour === "vllm" ? { stop_reason: null } : {})
  })

  const frames = (body: Json): ReadonlyArray<Frame> => {
    const counts = body.stream_options?.include_usage === true
    const event = (choices: ReadonlyArray<Json>, extra: Json = {}, token = false): Frame => ({
      text: `data: ${encode({ ...common, choices, ...extra })}\n\n`,
      token
    })
    const none = counts && flavour === "openai" ? { usage: null } : {}
    // vLLM says with the last token that it is the last.
    const last = flavour === "vllm" ? said.tokens.length - 1 : said.tokens.length
    const likely = (token: string) => logprobs([token], body.logprobs)
    const own = flavour === "llamacpp"
    return [
      ...said.tokens.slice(0, last).map((token) => event([choice(token, null, likely(token))], none, true)),
      ...(last < said.tokens.length && last >= 0
        ? [event([choice(said.tokens[last] ?? "", said.finish, likely(said.tokens[last] ?? ""))], none, true)]
        : [event([choice("", said.finish)], own ? { usage, timings } : none)]),
      ...(counts && !own ? [event([], { usage })] : []),
      { text: "data: [DONE]\n\n", token: false }
    ]
  }

  const whole = (body: Json): Json => ({
    ...common,
    choices: [choice(said.tokens.join(""), said.finish, logprobs(said.tokens, body.logprobs))],
    usage,
    ...(flavour === "llamacpp" ? { timings } : {})
  })

  /** What the server writes when it fails after the headers. */
  const errorEvent = (message = serverError): string => {
    if (flavour === "ollama") return `data: ${encode({ ...common, model: "", choices: [choice("", null)] })}\n\n`
    const event = `data: ${encode(errorBody(flavour, { status: 500, message }))}\n\n`
    return flavour === "vllm" ? `${event}data: [DONE]\n\n` : event
  }

  return { frames, whole, errorEvent }
}
