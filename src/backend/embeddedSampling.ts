/** One sequence at a time reads its logits. */
import type { LlamaContext } from "node-llama-cpp"

type Sample = (...args: ReadonlyArray<unknown>) => Promise<unknown>

/**
 * Makes the sequences of a context sample one after another; `false` where this version of the library does not let us.
 *
 * llama.cpp brings the logits of a batch into the order of its sequences when they are first read. The library samples all
 * sequences of a batch at once, each in a thread: two that reorder at the same time give one sequence the token of another.
 */
export const sampleInTurn = (context: LlamaContext): boolean => {
  const inner = (context as unknown as { readonly _ctx?: { readonly sampleToken?: Sample } })._ctx
  const original = inner?.sampleToken
  if (inner === undefined || typeof original !== "function") return false
  let last: Promise<unknown> = Promise.resolve()
  const sample: Sample = (...args) => {
    const sampled = last.then(() => original.apply(inner, [...args]))
    last = sampled.catch(() => {})
    return sampled
  }
  return Reflect.defineProperty(inner, "sampleToken", { value: sample })
}
