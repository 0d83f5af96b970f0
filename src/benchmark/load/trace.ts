/** What the requests of a load test ask: prompts of a given length, repeatable by a seed. */
import * as Prng from "../../internal/prng.js"
import * as Message from "../../Message.js"
import type { CheckedLoad } from "./options.js"

/** Common words, of which most tokenizers make one token each. */
const words = [
  ..."river stone garden window paper summer letter engine bridge mountain morning doctor island market silver".split(
    " "
  ),
  ..."winter school flower butter castle dinner forest golden harbor kitchen ladder machine number orange pocket".split(
    " "
  )
]

/** A text of about so many tokens. */
const textOf = (tokens: number, random: () => number): string => {
  const text: Array<string> = []
  for (let i = 0; i < tokens; i++) text.push(words[Math.floor(random() * words.length)] ?? "")
  return text.join(" ")
}

/** Texts that begin with another word each: no cache has more of them than the system prompt. */
const newText = (tokens: number, random: () => number): string => {
  const nonce = Math.floor(random() * 0x1_0000_0000).toString(36)
  return tokens === 1 ? nonce : `${nonce} ${textOf(tokens - 1, random)}`
}

/** One request's messages. */
export interface Prompt {
  readonly messages: ReadonlyArray<Message.Message>
  /** About how many tokens they have. */
  readonly tokens: number
  /** To be called when it has ended: with the answer, if it succeeded. */
  readonly ended: (answer: string | undefined) => void
}

/** Whether answers are needed for what is asked next. */
export const keepsAnswers = ({ trace }: Pick<CheckedLoad, "trace">): boolean => trace === "chat"

interface Conversation {
  readonly random: () => number
  messages: ReadonlyArray<Message.Message>
  tokens: number
  turn: number
}

const ignore = (): void => {}

/** Far apart, so that neighbouring seeds share no numbers. */
const seedOf = (seed: number, part: number): number => Math.imul(seed, 0x9e3779b1) ^ Math.imul(part + 1, 0x85ebca6b)

/**
 * Gives the messages of one request after the other. The same options and seed give the same texts; in a conversation
 * the answers are the server's own.
 */
export const make = ({
  outputTokens,
  prefixTokens,
  promptTokens,
  seed,
  trace,
  turns
}: Pick<
  CheckedLoad,
  "outputTokens" | "prefixTokens" | "promptTokens" | "seed" | "trace" | "turns"
>): (() => Prompt) => {
  const prefix = prefixTokens === 0 ? [] : [Message.system(textOf(prefixTokens, Prng.make(seedOf(seed, -2))))]
  let count = 0
  if (trace !== "chat") {
    return () => {
      const text = newText(promptTokens, Prng.make(seedOf(seed, count++)))
      return { messages: [...prefix, Message.user(text)], tokens: prefixTokens + promptTokens, ended: ignore }
    }
  }
  /** Those that have questions left and no request in flight, the longest idle first. */
  const idle: Array<Conversation> = []
  return () => {
    const conversation = idle.shift() ?? {
      random: Prng.make(seedOf(seed, count++)),
      messages: prefix,
      tokens: prefixTokens,
      turn: 0
    }
    const messages = [...conversation.messages, Message.user(newText(promptTokens, conversation.random))]
    const tokens = conversation.tokens + promptTokens
    return {
      messages,
      tokens,
      ended: (answer) => {
        conversation.turn++
        // A conversation whose question failed has no answer to go on from.
        if (answer === undefined || answer === "" || conversation.turn >= turns) return
        conversation.messages = [...messages, Message.assistant(answer)]
        conversation.tokens = tokens + outputTokens
        idle.push(conversation)
      }
    }
  }
}
