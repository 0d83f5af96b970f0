/** Which tokens are evaluated together: one of each answer that is being written. */
import type { BatchingOptions } from "node-llama-cpp"

type Prioritize = Extract<BatchingOptions["itemPrioritizationStrategy"], (...args: never) => unknown>
type Batch = Parameters<Prioritize>[0]
type Part = ReturnType<Prioritize>[number]

/** How often one batch is put off; an answer whose token was just sampled asks for its next one after a few times. */
const longestWait = 24

/** All of each in order of arrival, or as much as fits: what one leaves of its share, longer ones have. */
const share = ({ items, size }: Batch): Array<Part> => {
  const parts: Array<Part> = items.map((item) => ({ item, processAmount: item.tokens.length }))
  if (parts.reduce((sum, { processAmount }) => sum + processAmount, 0) <= size) return parts
  let left = size
  for (const [i, part] of [...parts].sort((a, b) => a.processAmount - b.processAmount).entries()) {
    part.processAmount = Math.min(part.processAmount, Math.floor(left / (parts.length - i)))
    left -= part.processAmount
  }
  return parts.filter(({ processAmount }) => processAmount > 0)
}

/**
 * The library evaluates what is there as soon as the batch before is sampled, without the answer whose token was
 * sampled last: that one has not asked for its next token yet, and batches would hold one answer less than there are.
 */
export class Batching {
  private writing = 0
  private waited = 0

  /** An answer begins to ask for tokens. */
  begin(): void {
    this.writing++
  }

  /** It asks for no more. */
  end(): void {
    this.writing--
  }

  /** For the context whose sequences write the answers. */
  readonly options: BatchingOptions = {
    // Others that are about to ask are waited for below; a single answer need not wait for a turn of the event loop.
    dispatchSchedule: (dispatch) => dispatch(),
    itemPrioritizationStrategy: (batch) => {
      // An empty batch lets what is pending run, and asks again.
      if (this.waited < longestWait && batch.items.filter(asks).length < this.writing) {
        this.waited++
        return []
      }
      this.waited = 0
      return share(batch)
    }
  }
}

/** Whether a token is to be sampled after it: parts of prompts have none. */
const asks = ({ logits }: Batch["items"][number]): boolean => logits.length > 0
