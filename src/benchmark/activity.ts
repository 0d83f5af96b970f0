/** How many requests a server has in flight, by its own metrics. */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as Effect from "effect/Effect"
import { headersOf, type Server } from "../Server.js"

const timeout = "2 seconds"

/** The gauges of vLLM, llama.cpp's server, SGLang and TGI: requests that are answered, and those that wait. */
const gauge =
  /^(?:vllm:num_requests_(?:running|waiting)|llamacpp:requests_(?:processing|deferred)|sglang:num_(?:running|queue)_reqs|tgi_batch_current_size|tgi_queue_size)(?:\{[^}]*\})?[ \t]+([0-9.eE+]+)/gm

/** The sum of the gauges; `undefined` where there is none. */
export const readMetrics = (text: string): number | undefined => {
  let sum: number | undefined
  for (const [, value] of text.matchAll(gauge)) {
    const count = Number(value)
    if (Number.isFinite(count)) sum = (sum ?? 0) + count
  }
  return sum
}

/** Asks a server's `/metrics`; `undefined` if it does not report that. */
export const inFlightAt = (client: HttpClient.HttpClient, server: Server): Effect.Effect<number | undefined> =>
  client.execute(HttpClientRequest.get(new URL("/metrics", server.url), { headers: headersOf(server) })).pipe(
    Effect.flatMap((response) =>
      response.status === 200 ? Effect.map(response.text, readMetrics) : Effect.succeed(undefined)
    ),
    Effect.timeout(timeout),
    Effect.orElseSucceed(() => undefined)
  )
