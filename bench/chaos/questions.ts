/** What is asked, and what every fake answers to it: the same text, whatever the server. */
import * as Prng from "../../src/internal/prng.js"
import type { Json } from "../../test/support/script.js"

/** One request. Its `id` travels as its seed, which changes nothing at temperature 0. */
export interface Question {
  readonly id: number
  readonly model: string
  readonly prompt: string
  readonly maxTokens: number | undefined
  readonly stop: string | undefined
  readonly stream: boolean
}

const words: ReadonlyArray<(i: number, random: () => number) => string> = [
  (i) => ` word${i}`,
  // A text that repeats itself looks the same wherever it is begun.
  (i) => (i === 0 ? "ha" : " ha"),
  (_, random) =>
    [" ü", "語", " 😀", " naïve", "\n", ' "', "\\", " data:", " {}", " [DONE]"][Math.floor(random() * 10)] ?? "",
  (i, random) => (random() < 0.2 ? `\n\n${i}. ` : ` ${Math.floor(random() * 3)}`)
]

/** The tokens of the answer to a question of this number. */
export const tokensOf = (number: number): ReadonlyArray<string> => {
  const random = Prng.make(number * 7919)
  const word = words[number % words.length] ?? ((i) => ` ${i}`)
  return Array.from({ length: 20 + Math.floor(random() * 40) }, (_, i) => word(i, random))
}

export const promptOf = (number: number): string => `Question ${number}: what do you say?`

/** The reply of a fake, to any of the requests that a question may cause. */
export const reply = (body: Json): ReadonlyArray<string> => {
  const found = /Question (\d+):/.exec(JSON.stringify(body.messages ?? body.prompt))
  return found === null ? ["I", " do", " not", " know."] : tokensOf(Number(found[1]))
}

/** The number under which a request travels; the trial of a server has none. */
export const idOf = (body: Json): number | undefined => body?.seed ?? body?.options?.seed

/** The text that answers a question about tokens, with its limit and its stop sequence. */
export const expectedOf = (
  tokens: ReadonlyArray<string>,
  { maxTokens, stop }: Pick<Question, "maxTokens" | "stop">
): string => {
  const text = tokens.slice(0, maxTokens).join("")
  const at = stop === undefined ? -1 : text.indexOf(stop)
  return at === -1 ? text : text.slice(0, at)
}
