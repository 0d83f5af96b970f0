/**
 * Answers that called tools after thinking, as the server sent them.
 *
 * Anthropic's API wants the thinking before a tool call back, with its signature, when the results of the tools are sent.
 * The history of a conversation has no place for signatures, and clients of the gateway do not send any; so they are
 * kept here, by the ids of the calls. Where one is lost (another process, another server), the model answers without
 * thinking.
 */
import { LRUCache } from "lru-cache"
import type { AssistantMessage } from "../Message.js"

/** A block of the answer, as it is sent back. */
export type Block = { readonly [key: string]: unknown }

/** Of all answers together, in characters; and of one. */
const maxSize = 16 * 1024 * 1024
const maxEntry = 1024 * 1024

interface Kept {
  readonly blocks: ReadonlyArray<Block>
  readonly text: string
  readonly ids: string
}

const idsOf = (ids: ReadonlyArray<string>): string => JSON.stringify(ids)

const callsIn = (blocks: ReadonlyArray<Block>): ReadonlyArray<string> =>
  blocks.flatMap(({ id, type }) => (type === "tool_use" && typeof id === "string" ? [id] : []))

/** One for each backend. */
export class SignedAnswers {
  private readonly kept = new LRUCache<string, Kept>({ maxSize, maxEntrySize: maxEntry })

  /** Keeps an answer, if it has both thinking and calls. */
  keep(server: string, blocks: ReadonlyArray<Block>): void {
    const ids = callsIn(blocks)
    const [first] = ids
    if (first === undefined || !blocks.some(({ type }) => type === "thinking" || type === "redacted_thinking")) return
    const text = blocks.map(({ text }) => (typeof text === "string" ? text : "")).join("")
    const size = JSON.stringify(blocks).length
    if (size <= maxEntry) this.kept.set(`${server} ${first}`, { blocks, text, ids: idsOf(ids) }, { size })
  }

  /** The blocks of a message, if it is one of these answers and unchanged. */
  blocksOf(server: string, { content, toolCalls = [] }: AssistantMessage): ReadonlyArray<Block> | undefined {
    const [first] = toolCalls
    const kept = first === undefined ? undefined : this.kept.get(`${server} ${first.id}`)
    if (kept === undefined || kept.text !== content || kept.ids !== idsOf(toolCalls.map(({ id }) => id)))
      return undefined
    return kept.blocks
  }
}
