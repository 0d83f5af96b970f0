/**
 * How long a server may take to the first piece of its answer.
 *
 * @since 0.1.0
 */
import type { ChatRequest, Limits } from "../ChatRequest.js"

/**
 * Times are in milliseconds from when the request was sent. `silence`: without any byte of the answer; what shows that the
 * server is at work (a comment, a blank, the progress of the prompt, an empty piece) begins it anew. `total`: until the
 * first piece, whatever the server shows meanwhile.
 *
 * @since 0.1.0
 * @category models
 */
export interface FirstTokenTimeout {
  readonly silence: number
  readonly total: number
}

/** Fewer tokens have more characters than this in hardly any language: it is a limit, and no forecast. */
const charactersPerToken = 3
const tokensPerImage = 1_000
const tokensPerTool = 150

/** Prompt tokens per second of a server that has not shown its speed: a large model without a graphics card is slower. */
const slowest = 250

/** A server may take so many times as long as its average says: it has other requests, and prompts differ. */
const margin = 2

/** No prompt makes the limit longer than this, in milliseconds. */
const longest = 600_000

/** About how many tokens a request has, rather too many than too few. It costs nothing next to sending it. */
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
 * `cold`: whether the model must be loaded first. `speed`: how many prompt tokens a second the server has shown for the
 * model; `NaN` where it has shown none.
 *
 * @since 0.1.0
 * @category constructors
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
