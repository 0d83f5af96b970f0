/** Timeouts for the first piece of an answer. */
import type { ChatRequest, Limits } from "../ChatRequest.js"

/**
 * Milliseconds since the request was sent. `silence`: without any byte of the answer; signs of work (a comment,
 * whitespace, prompt progress, an empty piece) restart it. `total`: until the first piece, in any case.
 */
export interface FirstTokenTimeout {
  readonly silence: number
  readonly total: number
}

/** A lower bound for nearly all languages: it makes a limit, not a forecast. */
const charactersPerToken = 3
const tokensPerImage = 1_000
const tokensPerTool = 150

/** Assumed prompt tokens per second of an unmeasured server: a large model without a GPU is slower. */
const slowest = 250

/** Tolerance factor over the average: servers have other requests, and prompts differ. */
const margin = 2

/** Upper bound of the prompt's share, in milliseconds. */
const longest = 600_000

/** A generous estimate of the request's tokens. Its cost is negligible next to sending it. */
const sizeOf = ({ messages, suffix = "", tools }: ChatRequest): number => {
  let characters = suffix.length
  let images = 0
  for (const { content } of messages) {
    if (typeof content === "string") characters += content.length
    else {
      for (const part of content) {
        if (part.type === "text") characters += part.text.length
        else images++
      }
    }
  }
  return characters / charactersPerToken + images * tokensPerImage + tools.length * tokensPerTool
}

/**
 * `cold`: whether the model must be loaded first. `speed`: measured prompt tokens per second of the server for the
 * model; `NaN` if unknown.
 */
export const firstTokenTimeoutOf = (
  limits: Limits,
  request: ChatRequest,
  cold: boolean,
  speed: number
): FirstTokenTimeout => {
  const { firstTokenTimeout, loadTimeout } = limits
  const least = cold ? loadTimeout : firstTokenTimeout
  if (limits.firstToken === "fixed") return { silence: least, total: least }
  if (limits.firstToken === "silence") return { silence: least, total: Math.max(least, loadTimeout) }
  const tokens = sizeOf(request)
  const prompt =
    speed > 0 ? Math.min(longest, (margin * tokens * 1_000) / speed) : Math.min(loadTimeout, (tokens * 1_000) / slowest)
  const silence = prompt <= firstTokenTimeout ? least : cold ? loadTimeout + prompt : prompt
  return { silence, total: Math.max(silence, loadTimeout) }
}
