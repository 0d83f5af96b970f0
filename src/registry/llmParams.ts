/** A server and a model for clients other than this library. */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type { Snapshot } from "../fleet/snapshot.js"
import type { ModelInfo } from "../Model.js"
import { apiOf, type Host } from "../Server.js"
import { answers, hostOf } from "./offers.js"
import type { KnownServer } from "./serverEntry.js"

/**
 * What LangChain's Ollama classes take: `base_url` in Python, `baseUrl` in JavaScript. Only where no server that speaks
 * Ollama's protocol has the model is it the address of an OpenAI API, for LangChain's OpenAI classes.
 */
export interface LlmParams {
  /** The model's name as that server knows it. */
  readonly model: string
  /** The server's address, under the name of LangChain for Python. */
  readonly base_url: string
  /** The server's address, under the name of LangChain for JavaScript. */
  readonly baseUrl: string
}

/** Models that only make embeddings cannot serve as "any model" for a chat. */
const embeds = (info: ModelInfo): boolean =>
  info.capabilities === undefined
    ? /embed|minilm|bge-/.test(info.model_name)
    : !info.capabilities.includes("completion") && info.capabilities.includes("embedding")

/** Every model of the servers that answer; where any of them can chat, only those. */
export const chatHosts = (servers: ReadonlyArray<KnownServer>): ReadonlyArray<Host> => {
  const hosts: Array<Host> = []
  const chats: Array<Host> = []
  for (const known of servers.filter(answers)) {
    for (const info of known.models.values()) {
      const host = hostOf(known, info)
      hosts.push(host)
      if (!embeds(info)) chats.push(host)
    }
  }
  return chats.length === 0 ? hosts : chats
}

const preferred = <A>(all: ReadonlyArray<A>, condition: (item: A) => boolean): ReadonlyArray<A> => {
  const some = all.filter(condition)
  return some.length === 0 ? all : some
}

/** A random one of these, one that is not resting if possible; `undefined` where there is none. */
export const paramsOf = Effect.fnUntraced(function* (
  hosts: ReadonlyArray<Host>,
  snapshot: (url: string, model: string) => Snapshot
) {
  if (hosts.length === 0) return undefined
  const native = preferred(hosts, (host) => host.protocol === "ollama")
  const rested = preferred(native, (host) => snapshot(host.server.url, host.model).breaker !== "open")
  const host = rested[yield* Random.nextIntBetween(0, rested.length)]
  if (host === undefined) return undefined
  // OpenAI's clients take the address with its version.
  const url = apiOf(host.server, host.protocol)
  const params: LlmParams = { model: host.model, base_url: url, baseUrl: url }
  return params
})
