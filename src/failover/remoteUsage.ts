/** How many tokens attempts count for, where the server is remote: those have a ceiling per day. */
import type { Finish } from "../Backend.js"
import type { ChatRequest } from "../ChatRequest.js"
import type { EmbedRequest } from "../EmbedRequest.js"
import type { Phase } from "../Errors.js"
import { requirementsOf, tokensOf } from "../modelSelection/needs.js"
import { type Host, isLocal } from "../Server.js"
import type { Dependencies } from "./call.js"

/** What an attempt has received, and of which server. */
interface Received {
  readonly host: Host
  readonly phase: Phase
  readonly pieces: number
  readonly thinkingPieces: number
}

/**
 * Counts the tokens of an attempt on a remote server: as that counted them, else estimated, with one for each piece. An
 * attempt that ended before its first piece had none.
 */
export const countRemote = (
  { spend }: Pick<Dependencies, "spend">,
  request: ChatRequest,
  { host, phase, pieces, thinkingPieces }: Received,
  finish?: Finish
): void => {
  if (isLocal(host.server) || (finish === undefined && phase !== "stream")) return
  const { cachedTokens = 0, completionTokens = pieces + thinkingPieces, promptTokens } = finish?.usage ?? {}
  const prompt = finish?.sharedPrompt === true ? 0 : (promptTokens ?? requirementsOf({ request }).prompt)
  spend(prompt + completionTokens, {
    model: host.model,
    prompt,
    cached: cachedTokens,
    completion: completionTokens
  })
}

/** The tokens of texts that vectors were made of: as the server counted them, else estimated. */
export const tokensOfTexts = ({ input }: EmbedRequest, promptTokens: number | undefined): number => {
  if (promptTokens !== undefined) return promptTokens
  let tokens = 0
  for (const one of input) tokens += typeof one === "string" ? tokensOf(one.length) : one.length
  return tokens
}
