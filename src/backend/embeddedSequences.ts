/** The sequences of a context: each answers one request at a time, and keeps what it evaluated for the next one. */
import type { LlamaContextSequence, Token } from "node-llama-cpp"
import type { Job } from "./embeddedJob.js"

interface Waiting {
  readonly job: Job
  readonly prompt: ReadonlyArray<Token>
  readonly resume: (sequence: LlamaContextSequence | undefined) => void
}

/** How many tokens at the beginning of a prompt a sequence has evaluated. The last one is evaluated again. */
const sharedLength = (sequence: LlamaContextSequence, prompt: ReadonlyArray<Token>): number =>
  Math.min(sequence.compareContextTokens(prompt as Array<Token>).firstDifferentIndex, prompt.length - 1)

/**
 * So many tokens that a sequence would forget count as one that it need not evaluate: their conversation may never go on.
 * All prompts of a program begin alike, and a few words are no reason to forget a long conversation.
 */
const forgotten = 2

/** Requests beyond the number of sequences wait in order of arrival. */
export class Sequences {
  /** The least recently used one first. */
  private readonly free: Array<LlamaContextSequence>
  private waiting: Array<Waiting> = []

  constructor(sequences: ReadonlyArray<LlamaContextSequence>) {
    this.free = [...sequences]
  }

  /**
   * The free one that has evaluated so much of the prompt that it is worth what it forgets, else the one that was used
   * least recently; `undefined` if the job is over before there is one.
   */
  acquire(job: Job, prompt: ReadonlyArray<Token>): Promise<LlamaContextSequence | undefined> {
    if (this.free.length > 0) return Promise.resolve(this.take(prompt))
    return new Promise((resume) => {
      const entry = { job, prompt, resume }
      this.waiting.push(entry)
      job.onCancel(() => {
        this.waiting = this.waiting.filter((other) => other !== entry)
        resume(undefined)
      })
    })
  }

  release(sequence: LlamaContextSequence): void {
    this.free.push(sequence)
    const next = this.waiting.shift()
    if (next === undefined) return
    next.job.onCancel(undefined)
    next.resume(this.take(next.prompt))
  }

  private take(prompt: ReadonlyArray<Token>): LlamaContextSequence | undefined {
    let best = 0
    let most = 0
    for (const [i, sequence] of this.free.entries()) {
      const shared = sharedLength(sequence, prompt)
      const worth = shared - (sequence.nextTokenIndex - shared) / forgotten
      if (worth > most) {
        most = worth
        best = i
      }
    }
    return this.free.splice(best, 1)[0]
  }
}

/**
 * Evaluates a prompt except for its last part, of at most `batch` tokens, which is returned. `undefined` where the job
 * is over before that. What an earlier request has evaluated of it is kept; `cached` is how much that is.
 */
export const evaluatePrompt = async (
  sequence: LlamaContextSequence,
  prompt: ReadonlyArray<Token>,
  batch: number,
  job: Job
): Promise<{ readonly rest: Array<Token>; readonly cached: number } | undefined> => {
  const shared = sharedLength(sequence, prompt)
  if (sequence.nextTokenIndex > shared) {
    await sequence.eraseContextTokenRanges([{ start: shared, end: sequence.nextTokenIndex }])
  }
  // One batch at a time: so an aborted request frees its sequence, and a waiting caller sees progress.
  let at = shared
  while (prompt.length - at > batch) {
    if (job.over) return undefined
    await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(at, at + batch))
    at += batch
    job.progress()
  }
  return job.over ? undefined : { rest: prompt.slice(at), cached: shared }
}
