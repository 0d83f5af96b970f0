import type { Usage } from "../ChatEvent.js"

const none: Usage = {}

const add = (a: number | undefined, b: number | undefined): number | undefined =>
  a === undefined ? b : b === undefined ? a : a + b

/**
 * The total usage of several requests.
 *
 * @internal
 */
export const addUsage = (a: Usage, b: Usage): Usage => {
  if (a === none) return b
  const promptTokens = add(a.promptTokens, b.promptTokens)
  const completionTokens = add(a.completionTokens, b.completionTokens)
  const totalTokens = add(a.totalTokens, b.totalTokens)
  const cachedTokens = add(a.cachedTokens, b.cachedTokens)
  const cacheWriteTokens = add(a.cacheWriteTokens, b.cacheWriteTokens)
  const reasoningTokens = add(a.reasoningTokens, b.reasoningTokens)
  return {
    ...(promptTokens === undefined ? {} : { promptTokens }),
    ...(completionTokens === undefined ? {} : { completionTokens }),
    ...(totalTokens === undefined ? {} : { totalTokens }),
    ...(cachedTokens === undefined ? {} : { cachedTokens }),
    ...(cacheWriteTokens === undefined ? {} : { cacheWriteTokens }),
    ...(reasoningTokens === undefined ? {} : { reasoningTokens }),
    ...(a.estimated === true || b.estimated === true ? { estimated: true } : {})
  }
}

/**
 * A server's usage plus what was emitted before it resumed. Ollama omits a count of zero (`countOmitted`).
 *
 * @internal
 */
export const withPartial = (usage: Usage, partial: number, countOmitted: boolean): Usage => {
  if (partial === 0) return usage
  const { completionTokens, totalTokens, ...rest } = usage
  return completionTokens === undefined && !countOmitted
    ? rest
    : {
        ...rest,
        completionTokens: partial + (completionTokens ?? 0),
        ...(totalTokens === undefined ? {} : { totalTokens: partial + totalTokens })
      }
}

/**
 * What is left where the prompt is counted with another answer.
 *
 * @internal
 */
export const withoutPrompt = ({ promptTokens: _, ...written }: Usage): Usage => written

/**
 * No tokens yet.
 *
 * @internal
 */
export const noUsage = none
