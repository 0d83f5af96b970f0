/** `GET /benchmarks`: what `aicortex bench` has found of the servers of the fleet. */
import { readFile, stat } from "node:fs/promises"
import { dirname, join } from "node:path"
import * as Either from "effect/Either"
import { decodeResults, type Phase, type Result } from "../../../Benchmark.js"
import { fileName, maxBytes } from "../../../benchmark/history.js"
import type { GatewayContext } from "../../GatewayContext.js"
import { make, RequestRejected } from "../../http/errorResponse.js"
import * as Query from "../../http/query.js"
import type { RequestContext } from "../../http/RequestContext.js"
import * as ModelAccess from "../../keys/modelAccess.js"

const unreadable = (): RequestRejected =>
  new RequestRejected(
    make(500, "The file of benchmarks cannot be read; the next one replaces it.", "benchmarks_unreadable")
  )

/** What the file has; it is small, and read at each request. */
const read = async (file: string): Promise<ReadonlyArray<Result>> => {
  let text: string
  try {
    if ((await stat(file)).size > maxBytes) throw unreadable()
    text = await readFile(file, "utf8")
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return []
    throw unreadable()
  }
  return Either.getOrElse(decodeResults(text), () => {
    throw unreadable()
  })
}

const phaseOf = ({
  concurrency,
  failed,
  firstTokenTime,
  outputTokens,
  prompt,
  promptTokens,
  requests,
  throughput,
  tokensPerSecond
}: Phase) => ({
  prompt,
  concurrency,
  requests,
  failed,
  prompt_tokens: promptTokens,
  output_tokens: outputTokens,
  first_token_ms: firstTokenTime,
  tokens_per_second: tokensPerSecond,
  throughput
})

const viewOf = (server: string, result: Result) => ({
  server,
  model: result.model,
  at: result.at,
  first_token_ms: result.firstTokenTime,
  tokens_per_second: result.tokensPerSecond,
  prompt_tokens_per_second: result.promptTokensPerSecond ?? null,
  load_ms: result.loadTime ?? null,
  disagrees: result.disagrees,
  complete: result.complete,
  notes: result.notes,
  phases: result.phases.map(phaseOf)
})

/** `GET /benchmarks`: the newest first. */
export const list = async (gateway: GatewayContext, context: RequestContext): Promise<void> => {
  const query = Query.of(context, ["model", "server", "limit"])
  const limit = Query.limit(query, 2_000, 200)
  const { labels, library } = gateway
  const { stateFile } = library.settings
  const all = stateFile === undefined ? [] : await read(join(dirname(stateFile), fileName))
  // Others than those of the fleet have no name here.
  const known = new Map(
    (await library.run(library.registry.servers).result).map(({ url }) => [url, labels.label(url)] as const)
  )
  const visible = new Set(ModelAccess.visible(gateway, context, [...new Set(all.map(({ model }) => model))]))
  const [model, server] = [query.get("model"), query.get("server")]
  const found = all.flatMap((result) => {
    const name = known.get(result.server)
    const wanted = name !== undefined && visible.has(result.model) && (model ?? result.model) === result.model
    return wanted && (server ?? name) === name ? [viewOf(context.redactMessage(name), result)] : []
  })
  found.sort((a, b) => b.at - a.at)
  context.json({ kept: stateFile !== undefined, benchmarks: found.slice(0, limit) })
}
