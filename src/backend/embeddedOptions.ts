/** How the next token is chosen, and how likely each was. */
import type { LlamaModel, SequenceEvaluateOptions, Token, TokenBias } from "node-llama-cpp"
import type { ServerFailure } from "../Backend.js"
import { type ChatRequest, defaults } from "../ChatRequest.js"

const randomSeed = (): number => globalThis.crypto.getRandomValues(new Uint32Array(1))[0] ?? 0

const penalties = (request: ChatRequest, generated: ReadonlyArray<Token>) => {
  const { frequencyPenalty, presencePenalty, repeatPenalty } = request
  if ((frequencyPenalty ?? 0) === 0 && (presencePenalty ?? 0) === 0 && (repeatPenalty ?? 1) === 1) return {}
  const window = 64
  return {
    repeatPenalty: {
      punishTokens: () => generated.slice(-window),
      maxPunishTokens: window,
      penalty: repeatPenalty ?? 1,
      frequencyPenalty: frequencyPenalty ?? 0,
      presencePenalty: presencePenalty ?? 0
    }
  }
}

/** The biases of a request, or what is wrong with them. */
export const biasOf = (
  { logitBias }: ChatRequest,
  model: LlamaModel,
  make: () => TokenBias
): TokenBias | ServerFailure | undefined => {
  if (logitBias === undefined) return undefined
  const { tokens } = (model.fileInfo.metadata.tokenizer as { readonly ggml: { readonly tokens?: unknown } }).ggml
  const size = Array.isArray(tokens) ? tokens.length : Number.POSITIVE_INFINITY
  const wrong = (message: string): ServerFailure => ({ reason: "invalid-request", message: `logitBias: ${message}` })
  const bias = make()
  for (const [key, logit] of Object.entries(logitBias)) {
    const token = Number(key) as Token
    if (!Number.isInteger(token) || token < 0 || token >= size) {
      return wrong(`the model has no token ${key}; it has ${size}, from 0`)
    }
    if (model.isEogToken(token)) return wrong(`token ${key} ends an answer, which this engine cannot bias`)
    bias.set(token, { logit })
  }
  return bias
}

/** How the tokens of an answer are chosen. `generated` grows while it is written. */
export const samplingOf = (request: ChatRequest, generated: ReadonlyArray<Token>): SequenceEvaluateOptions => ({
  temperature: request.temperature ?? defaults.temperature,
  topP: request.topP ?? defaults.topP,
  topK: request.topK ?? 40,
  minP: request.minP ?? 0,
  seed: request.seed === undefined ? randomSeed() : request.seed >>> 0,
  ...penalties(request, generated),
  yieldEogToken: true
})

const utf8 = new TextEncoder()

/** A token and its text as OpenAI's API reports them. */
const entry = (text: string, logprob: number) => ({
  token: text,
  logprob,
  // A token that is a part of a character has no text that stands for its bytes.
  bytes: text.includes("\uFFFD") ? null : [...utf8.encode(text)]
})

/**
 * The log probability of a chosen token and of the `top` likeliest ones, of those that it was chosen from.
 *
 * `probabilities` are those after the temperature, which is undone: they are the model's own.
 */
export const logprobOf = (
  token: Token,
  probabilities: ReadonlyMap<Token, number>,
  { temperature = 0 }: Pick<SequenceEvaluateOptions, "temperature">,
  top: number,
  textOf: (token: Token) => string
): object => {
  const scale = temperature > 0 ? temperature : 1
  let sum = 0
  for (const p of probabilities.values()) if (p > 0) sum += scale === 1 ? p : p ** scale
  const norm = Math.log(sum)
  const of = (p: number | undefined) => (p === undefined || p <= 0 ? -9999 : scale * Math.log(p) - norm)
  const likeliest = [...probabilities].sort((a, b) => b[1] - a[1]).slice(0, top)
  return {
    ...entry(textOf(token), of(probabilities.get(token))),
    top_logprobs: likeliest.map(([other, p]) => entry(textOf(other), of(p)))
  }
}
