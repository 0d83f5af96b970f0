/** Which results of benchmarks are kept: those of the last times, for each model on each server. */
import type { Result } from "./report.js"

/** The file, beside what was learned of the servers. */
export const fileName = "benchmarks.json"

/** A larger file is none of ours, in bytes. */
export const maxBytes = 16 * 1024 * 1024

/** So many results are kept of a model on a server, and in all: the newest. */
export const maxOfOne = 20
const maxResults = 2_000

const key = ({ model, server }: Pick<Result, "model" | "server">): string => JSON.stringify([server, model])

const newestFirst = (results: ReadonlyArray<Result>): ReadonlyArray<Result> => [...results].sort((a, b) => b.at - a.at)

/** Adds results to those that are kept: the newest first. */
export const added = (before: ReadonlyArray<Result>, results: ReadonlyArray<Result>): ReadonlyArray<Result> => {
  const counts = new Map<string, number>()
  const kept = newestFirst([...before, ...results]).filter((result) => {
    const count = (counts.get(key(result)) ?? 0) + 1
    counts.set(key(result), count)
    return count <= maxOfOne
  })
  return kept.slice(0, maxResults)
}

/** The last result of each model on each server. */
export const latest = (results: ReadonlyArray<Result>): ReadonlyMap<string, Result> =>
  new Map(
    newestFirst(results)
      .toReversed()
      .map((result) => [key(result), result])
  )

/** The one of the same model on the same server. */
export const same = (known: ReadonlyMap<string, Result>, result: Result): Result | undefined => known.get(key(result))
