import { createHash } from "node:crypto"

/** Parsed JSON of any shape, as tests like to read it. */
// biome-ignore lint/suspicious/noExplicitAny: request bodies are inspected freely by tests
export type Json = any

/** What a fake model says, in full. */
export interface ScriptedReply {
  readonly tokens: string | ReadonlyArray<string>
  readonly thinking?: ReadonlyArray<string> | undefined
  readonly toolCalls?: ReadonlyArray<{ readonly name: string; readonly arguments: Json }> | undefined
  readonly finish?: "stop" | "length" | undefined
  readonly usage?: { readonly promptTokens?: number; readonly completionTokens?: number } | undefined
}

/** What a fake model says: a text, its tokens, a full script, or a function of the request body and its number. */
export type Reply =
  | string
  | ReadonlyArray<string>
  | ScriptedReply
  | ((body: Json, n: number) => string | ReadonlyArray<string> | ScriptedReply)

/** How a server treats a conversation that ends with a partial answer of the assistant. */
export type Continuation = "continue" | "echo" | "restart"

/** A reply with its limits applied, ready to be sent. */
export interface Script {
  readonly thinking: ReadonlyArray<string>
  readonly tokens: ReadonlyArray<string>
  readonly toolCalls: ReadonlyArray<{ readonly name: string; readonly arguments: Json }>
  readonly finish: "stop" | "length"
  /** The stop string that ended it. */
  readonly stoppedBy: string | undefined
  readonly promptTokens: number
  readonly completionTokens: number
}

/** What every model can do: it goes on with a list of which it is given the beginning. */
const listing = {
  question: "List programming languages (one per line):",
  tokens: ["1", ".", " Python", "\n", "2", ".", " JavaScript", "\n", "3", ".", " TypeScript", "\n", "4", ".", " Rust"]
}

const asksForList = (body: Json): boolean =>
  Array.isArray(body?.messages) &&
  body.messages.some((message: Json) => message?.role === "user" && message.content === listing.question)

/** What the fake says when nothing is scripted. */
export const defaultReply = "The sky looks blue because air scatters short wavelengths the most."

/** Splits a text into word tokens, each with its leading space; joined they give the text back. */
export const tokenize = (text: string): ReadonlyArray<string> => text.match(/\s*\S+|\s+$/g) ?? []

/** How likely a token was, as every server tells it. */
export const likelihood = (token: string, top = 0): Json => ({
  token,
  logprob: -0.25,
  bytes: [...Buffer.from(token)],
  top_logprobs: Array.from({ length: top }, (_, i) => ({ token: `${token}${i}`, logprob: -i, bytes: [] }))
})

/** About as many tokens as a server would count in the messages or the prompt of a request. */
export function countPrompt(body: Json): number {
  const texts: Array<unknown> = [body?.system, body?.prompt, body?.suffix]
  for (const message of Array.isArray(body?.messages) ? body.messages : []) {
    const content = message?.content
    texts.push(...(Array.isArray(content) ? content.map((part: Json) => part?.text) : [content]))
  }
  return texts.reduce<number>((sum, text) => sum + (typeof text === "string" ? tokenize(text).length : 0), 3)
}

/** The partial answer with which a conversation ends, if it ends with one. */
export function trailingAssistant(messages: Json): string | undefined {
  const last = Array.isArray(messages) ? messages[messages.length - 1] : undefined
  if (last?.role !== "assistant" || typeof last.content !== "string") return undefined
  return last.content === "" || last.tool_calls?.length > 0 ? undefined : last.content
}

/** Resolves a reply for one request and applies continuation, stop strings and the token limit. */
export function script(
  reply: Reply | undefined,
  body: Json,
  n: number,
  limits: {
    readonly maxTokens?: number | undefined
    readonly stop?: ReadonlyArray<string> | undefined
    readonly partial?: string | undefined
    readonly continuation?: Continuation | undefined
    /** Whether white space at the end of the partial answer is lost, as in many templates. */
    readonly trims?: boolean | undefined
    readonly think?: boolean | undefined
    /** A text that is gone on with: what it ends with of the reply is not said again. */
    readonly after?: string | undefined
  }
): Script {
  const given = asksForList(body)
    ? listing.tokens
    : typeof reply === "function"
      ? reply(body, n)
      : (reply ?? defaultReply)
  const full: ScriptedReply = typeof given === "string" || !("tokens" in given) ? { tokens: given } : given
  let tokens = typeof full.tokens === "string" ? tokenize(full.tokens) : full.tokens
  let thinking = limits.think === false ? [] : (full.thinking ?? [])
  const continuation = limits.continuation ?? "restart"
  if (limits.partial !== undefined && continuation !== "restart") {
    const partial = limits.trims === true ? limits.partial.trimEnd() : limits.partial
    thinking = []
    if (tokens.join("").startsWith(partial)) tokens = dropPrefix(tokens, partial.length)
    if (continuation === "echo") tokens = [partial + (tokens[0] ?? ""), ...tokens.slice(1)]
  }
  if (limits.after !== undefined) {
    thinking = []
    tokens = dropPrefix(tokens, overlap(limits.after, tokens.join("")))
  }
  const stopped = cutAtStop(tokens, limits.stop ?? [])
  const max = limits.maxTokens !== undefined && limits.maxTokens > 0 ? limits.maxTokens : Number.POSITIVE_INFINITY
  const limited = thinking.length + stopped.tokens.length > max
  const shownThinking = thinking.slice(0, max)
  const shown = stopped.tokens.slice(0, Math.max(0, max - shownThinking.length))
  const hit = stopped.by !== undefined
  const toolCalls = limited || hit ? [] : (full.toolCalls ?? [])
  return {
    thinking: shownThinking,
    tokens: shown,
    toolCalls,
    finish: limited ? "length" : hit ? "stop" : (full.finish ?? "stop"),
    stoppedBy: limited ? undefined : stopped.by,
    promptTokens: full.usage?.promptTokens ?? countPrompt(body),
    completionTokens: full.usage?.completionTokens ?? shownThinking.length + shown.length + toolCalls.length
  }
}

/** A unit vector that depends only on the text. */
export function embedding(text: string, dimensions = 8): Array<number> {
  const vector: Array<number> = []
  for (let block = 0; vector.length < dimensions; block++) {
    const hash = createHash("sha256").update(`${block}:${text}`).digest()
    for (let i = 0; i < hash.length && vector.length < dimensions; i += 4) {
      vector.push(hash.readInt32BE(i) / 2 ** 31)
    }
  }
  const norm = Math.hypot(...vector)
  return vector.map((x) => x / norm)
}

/** How much of the beginning of a reply a text ends with. */
function overlap(text: string, reply: string): number {
  let length = Math.min(text.length, reply.length)
  while (length > 0 && !text.endsWith(reply.slice(0, length))) length--
  return length
}

function dropPrefix(tokens: ReadonlyArray<string>, length: number): ReadonlyArray<string> {
  let left = length
  const out: Array<string> = []
  for (const token of tokens) {
    if (left < token.length) out.push(token.slice(left))
    left = Math.max(0, left - token.length)
  }
  return out
}

function cutAtStop(tokens: ReadonlyArray<string>, stop: ReadonlyArray<string>) {
  const text = tokens.join("")
  let at = Number.POSITIVE_INFINITY
  let by: string | undefined
  for (const s of stop) {
    const i = s === "" ? -1 : text.indexOf(s)
    if (i === -1 || i >= at) continue
    at = i
    by = s
  }
  if (by === undefined) return { tokens, by }
  const out: Array<string> = []
  let length = 0
  for (const token of tokens) {
    if (length < at) out.push(token.slice(0, at - length))
    length += token.length
  }
  return { tokens: out, by }
}
