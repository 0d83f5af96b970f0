/** Log probabilities as `/v1/completions` reports them: parallel lists, where the newer API has one list. */
import { isObject } from "../../http/body.js"

/** `text_offset` counts characters of the text before each token, as Python does. */
export interface LegacyLogprobs {
  readonly tokens: ReadonlyArray<string>
  readonly token_logprobs: ReadonlyArray<number | null>
  readonly top_logprobs: ReadonlyArray<{ readonly [token: string]: number | null }>
  readonly text_offset: ReadonlyArray<number>
}

const number = (value: unknown): number | null => (typeof value === "number" ? value : null)

/**
 * The log probabilities of tokens from `offset` on, and the next offset. The token itself is always among the top ones.
 */
export const make = (
  reported: ReadonlyArray<unknown>,
  offset: number
): { readonly logprobs: LegacyLogprobs; readonly end: number } => {
  const tokens: Array<string> = []
  const token_logprobs: Array<number | null> = []
  const top_logprobs: Array<{ readonly [token: string]: number | null }> = []
  const text_offset: Array<number> = []
  let end = offset
  for (const one of reported) {
    if (!isObject(one)) continue
    const token = String(one["token"] ?? "")
    const logprob = number(one["logprob"])
    const tops: ReadonlyArray<unknown> = Array.isArray(one["top_logprobs"]) ? one["top_logprobs"] : []
    tokens.push(token)
    token_logprobs.push(logprob)
    text_offset.push(end)
    top_logprobs.push(
      Object.fromEntries([
        ...tops.filter(isObject).map((top) => [String(top["token"] ?? ""), number(top["logprob"])] as const),
        [token, logprob]
      ])
    )
    for (const _ of token) end++
  }
  return { logprobs: { tokens, token_logprobs, top_logprobs, text_offset }, end }
}
