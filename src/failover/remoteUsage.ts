/** How many tokens attempts count for, where the server is remote: those have a ceiling per day. */
import type { Finish } from "../Backend.js"
import type { ChatRequest } from "../ChatRequest.js"
import type { EmbedRequest } from "../EmbedRequest.js"
import type { Phase } from "../Errors.js"
import { requirementsOf, tokensOf } from "../modelSelection/needs.js"

/** What an attempt has received. */
interface Received {
  readonly phase: Phase
  readonly pieces: number
  readonly thinkingPieces: number
}

/**
 * The tokens of an attempt: as its server counted them, else estimated, with one for each piece. An attempt that ended
 * before its first piece counts as none.
 */
export const tokensOfAttempt = (
  request: ChatRequest,
  { phase, pieces, thinkingPieces }: Received,
  finish: Finish | undefined
): number => {
  if (finish === undefined && phase !== "stream") return 0
  const { completionTokens = pieces + thinkingPieces, promptTokens } = finish?.usage ?? {}
  if (finish?.sharedPrompt === true) return completionTokens
  return completionTokens + (promptTokens ?? requirementsOf({ request }).prompt)
}

/** The tokens of texts that vectors were made of: as the server counted them, else estimated. */
export const tokensOfTexts = ({ input }: EmbedRequest, promptTokens: number | undefined): number => {
  if (promptTokens !== undefined) return promptTokens
  let tokens = 0
  for (const one of input) tokens += typeof one === "string" ? tokensOf(one.length) : one.length
  return tokens
}
