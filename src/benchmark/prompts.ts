/** The prompts of a benchmark. Each is new to the server from its first word on, so that no cache has it. */

/** About so many characters make a token of English. */
export const charactersPerToken = 4

/** Which prompt. */
export type PromptKind = "short" | "long"

const words = ["river", "stone", "garden", "window", "paper", "summer", "letter", "engine", "bridge", "mountain"]

const nonce = (random: () => number): string => Math.floor(random() * 0x1_0000_0000).toString(36)

const question = "Count from one to one hundred in English words, separated by commas. Begin at once."

/** A prompt of about `tokens` tokens, if it is the long one. */
export const promptOf = (kind: PromptKind, tokens: number, random: () => number): string => {
  if (kind === "short") return `[${nonce(random)}] ${question}`
  let text = `[${nonce(random)}]`
  const length = tokens * charactersPerToken - question.length
  while (text.length < length) text += ` ${words[Math.floor(random() * words.length)]}`
  return `${text}.\n\nIgnore the words above. ${question}`
}
