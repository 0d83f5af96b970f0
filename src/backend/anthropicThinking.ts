/**
 * A cache of answers that called tools after thinking.
 *
 * Anthropic's API requires the signed thinking before a tool call to be sent back with the tool results. Messages have no
 * field for signatures, and clients of the gateway do not send any, so the blocks are cached by the ids of the calls. If
 * an entry is missing (another process, another server), the model answers without thinking.
 */
import { LRUCache } from "lru-cache"
import type { AssistantMessage } from "../Message.js"

/** A block of the answer, as it is sent back. */
export type Block = { readonly [key: string]: unknown }

/** Maximum characters of all cached answers, and of one. */
const maxSize = 16 * 1024 * 1024
const maxEntry = 1024 * 1024

interface SignedThinking {
  readonly blocks: ReadonlyArray<Block>
  readonly text: string
  readonly ids: string
}

const idsOf = (ids: ReadonlyArray<string>): string => JSON.stringify(ids)

const callsIn = (blocks: ReadonlyArray<Block>): ReadonlyArray<string> =>
  blocks.flatMap(({ id, type }) => (type === "tool_use" && typeof id === "string" ? [id] : []))

/** One for each backend. */
export class SignedAnswers {
  private readonly cache = new LRUCache<string, SignedThinking>({ maxSize, maxEntrySize: maxEntry })

  /** Stores an answer if it has both thinking and calls. */
  keep(server: string, blocks: ReadonlyArray<Block>): void {
    const ids = callsIn(blocks)
    const [first] = ids
    if (first === undefined || !blocks.some(({ type }) => type === "thinking" || type === "redacted_thinking")) return
    const text = blocks.map(({ text }) => (typeof text === "string" ? text : "")).join("")
    const size = JSON.stringify(blocks).length
    if (size <= maxEntry) this.cache.set(`${server} ${first}`, { blocks, text, ids: idsOf(ids) }, { size })
  }

  /** The blocks of a message, if it is an unchanged cached answer. */
  blocksOf(server: string, { content, toolCalls = [] }: AssistantMessage): ReadonlyArray<Block> | undefined {
    const [first] = toolCalls
    const kept = first === undefined ? undefined : this.cache.get(`${server} ${first.id}`)
    if (kept === undefined || kept.text !== content || kept.ids !== idsOf(toolCalls.map(({ id }) => id)))
      return undefined
    return kept.blocks
  }
}
