/** Checks the servers: whether they can be reached, what they have, and whether they answer. */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Chat from "../../Chat.js"
import * as Cortex from "../../Cortex.js"
import type { Resolved } from "../../config/resolve.js"
import * as Errors from "../../Errors.js"
import * as Live from "../../Fleet.js"
import { canonical } from "../../Model.js"
import { measure } from "../../management/models.js"
import { isAuto } from "../../modelSelection/candidate.js"
import { sizeOf } from "../../modelSelection/suitable.js"
import { type Offer, Registry } from "../../Registry.js"
import type { Server, ServerOptions } from "../../Server.js"
import { Transport } from "../../Transport.js"
import { type ManagedServer, protocolName } from "../manage/servers.js"
import { adviceFor } from "./advice.js"
import { type Check, ok, wrong } from "./check.js"

const count = (models: ReadonlyArray<string>): string => `${models.length} ${models.length === 1 ? "model" : "models"}`

/** The server alone, as options: its key as one, because protocols send keys in headers of their own. */
const optionsOf = ({ authorization, headers = {}, protocol, url }: Server): ServerOptions => {
  const value = authorization === undefined ? undefined : Redacted.value(authorization)
  const key = value?.startsWith("Bearer ") === true ? Redacted.make(value.slice("Bearer ".length)) : undefined
  const all = value === undefined || key !== undefined ? headers : { ...headers, authorization: Redacted.make(value) }
  return {
    url,
    ...(protocol === "embedded" ? {} : { protocol }),
    ...(key === undefined ? {} : { apiKey: key }),
    ...(Object.keys(all).length === 0 ? {} : { headers: all })
  }
}

/** The default model if the server has it, else what is loaded there, else the smallest that answers. */
const modelOf = (
  { models, url }: ManagedServer,
  preferred: string,
  offers: ReadonlyArray<Offer>,
  fleet: Live.Service
): string | undefined => {
  const key = canonical(preferred)
  const own = models.find((model) => canonical(model) === key)
  if (own !== undefined && !isAuto(preferred)) return own
  const bytes = ({ info }: Offer) => info.size ?? sizeOf(info)
  const answering = offers
    .filter(({ hosts, info }) => {
      const { capabilities, model_name: name } = info
      const completes =
        capabilities === undefined ? !/embed|minilm|bge-|rerank/i.test(name) : capabilities.includes("completion")
      return completes && hosts.some(({ server }) => server.url === url)
    })
    .sort((a, b) => bytes(a) - bytes(b))
  const loaded = answering.find(({ model }) => (fleet.snapshot(url, model).residentUntil ?? 0) > Date.now())
  return (loaded ?? answering[0])?.model
}

/** The reason of a failure, without what the errors of a whole fleet add. */
const reasonOf = (error: Errors.ChatError): string =>
  error instanceof Errors.AllServersFailed ? (error.attempts.at(-1)?.message ?? error.message) : error.message

/** Asks this server alone for one token. */
const ask = Effect.fnUntraced(function* (
  { server, url }: ManagedServer,
  model: string,
  timeout: number,
  { settings }: Resolved
) {
  const began = performance.now()
  const answer = Effect.flatMap(Chat.Chat, (chat) =>
    chat.complete("Hi", { model, maxTokens: 1, maxRetries: 1, timeout, deadline: timeout })
  ).pipe(
    Effect.provide(
      Cortex.layer({
        servers: [optionsOf(server)],
        registry: [],
        configFile: false,
        ca: settings.ca,
        ...(settings.proxy === undefined ? { proxy: false } : {})
      })
    )
  )
  return yield* Effect.match(answer, {
    onSuccess: () => ok("answer", url, `${model} answers (${Math.round(performance.now() - began)} ms)`),
    onFailure: (error) =>
      wrong(
        "answer",
        url,
        `${model} does not answer: ${error._tag === "InvalidConfig" ? error.message : reasonOf(error)}`,
        "Other models of this server may work: `aicortex chat -m MODEL`. If none does, restart it and look into its log."
      )
  })
})

/** What is to say of one server. */
export const checkServer = Effect.fnUntraced(function* (server: ManagedServer, timeout: number, resolved: Resolved) {
  const { models, problem, protocol, reachable, url } = server
  if (!reachable) return [wrong("server", url, `it ${problem}`, adviceFor(url, problem))]
  const transport = yield* Transport
  const registry = yield* Registry
  const fleet = yield* Live.Fleet
  const { latency, version } = yield* Effect.promise(() => measure(transport, server))
  const speaks = protocol === "ollama" ? `Ollama${version === undefined ? "" : ` ${version}`}` : protocolName(protocol)
  const took = latency === undefined ? "" : `, ${Math.max(1, Math.round(latency))} ms`
  const checks: Array<Check> = [ok("server", url, `it answers: ${speaks}, ${count(models)}${took}`)]
  if (models.length === 0) {
    const advice =
      protocol === "ollama"
        ? `Download one: \`aicortex pull llama3.2:3b --server ${url}\`.`
        : "Start it with a model: its own documentation says how."
    checks.push(wrong("models", url, "it has no models", advice))
    return checks
  }
  const model = modelOf(server, resolved.settings.model, yield* registry.offers, fleet)
  // A server of embeddings alone has nothing to say.
  if (model !== undefined) checks.push(yield* ask(server, model, timeout, resolved))
  return checks
})
