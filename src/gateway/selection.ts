/**
 * Which models a request may be answered by, in the order in which they are asked: one that was named, the chain of an
 * alias, or whatever fits (`auto`).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { chainOf, type Settings } from "../config/gatewaySettings.js"
import type { ModelNotFound, NoServers } from "../Errors.js"
import { canonical, demoModel, type ModelInfo, parseParameters, sizeOfName } from "../Model.js"
import type { Host, Protocol } from "../Server.js"
import { type Ask, type Asked, needs } from "./ask.js"
import type { Library } from "./fleet.js"
import { make, Refusal } from "./problem.js"

/**
 * - `only`: which of the servers may be asked
 * - `shown`: how the answer names the model, once it is known who answers
 *
 * @since 0.1.0
 * @category models
 */
export interface Candidate {
  readonly model: string
  readonly only: ((host: Host) => boolean) | undefined
  readonly shown: (model: string, protocol: Protocol) => string
}

const providers: ReadonlySet<string> = new Set<Protocol>(["ollama", "openai", "embedded"])

/** So many models are tried where any would do. */
const maxAuto = 5

const sees = /llava|bakllava|vision|moondream|pixtral|gemma3|gemma-3|minicpm-v|[-.]?vl\b|llama4/i
const writesCode = /code|\bfim\b/i
const embeds = /embed|minilm|bge-|reranker/i

/** Of models that do both, only some lists say that they complete. */
const completes = ({ capabilities, model_name: name }: ModelInfo): boolean =>
  capabilities === undefined
    ? !embeds.test(name)
    : capabilities.includes("completion") || !capabilities.includes("embedding")

/** 2: for certain; 1: perhaps; 0: no. */
const can = ({ capabilities, model_name: name }: ModelInfo, capability: "tools" | "vision" | "insert"): number => {
  if (capabilities !== undefined) return capabilities.includes(capability) ? 2 : 0
  if (capability === "insert") return writesCode.test(name) ? 1 : 0
  return capability === "tools" || sees.test(name) ? 1 : 0
}

const sizeOf = (info: ModelInfo): number =>
  (info.parameter_size === undefined ? undefined : parseParameters(info.parameter_size)) ??
  sizeOfName(info.model_name) ??
  0

interface Scored {
  readonly model: string
  readonly score: ReadonlyArray<number>
}

const compare = (a: Scored, b: Scored): number => {
  for (let i = 0; i < a.score.length; i++) {
    const difference = (b.score[i] ?? 0) - (a.score[i] ?? 0)
    if (difference !== 0) return difference
  }
  return a.model < b.model ? -1 : 1
}

/**
 * A model by its name, perhaps with the kind of its servers before the first colon.
 *
 * @since 0.1.0
 * @category constructors
 */
export const named = (name: string): Candidate => {
  const colon = name.indexOf(":")
  const provider = colon === -1 ? "" : name.slice(0, colon).toLowerCase()
  if (!providers.has(provider) || colon === name.length - 1) {
    return { model: name, only: undefined, shown: () => name }
  }
  return { model: name.slice(colon + 1), only: (host) => host.protocol === provider, shown: () => name }
}

const autoShown = (model: string, protocol: Protocol) => `auto (selected: ${protocol}:${model})`

/** A request that any model can answer. */
const plain: Asked = { request: { messages: [], tools: [], maxTokens: undefined } }

/**
 * Whether a name leaves the choice to the gateway.
 *
 * @since 0.1.0
 * @category guards
 */
export const isAuto = (name: string): boolean => name === "auto" || name === "auto:latest"

/**
 * What fits a request, of all that the servers have; without one, what would answer the plainest. Whoever is reachable and
 * has it in memory goes first.
 *
 * @since 0.1.0
 * @category constructors
 */
export const auto = (library: Library, settings: Settings, ask: Asked = plain) =>
  Effect.gen(function* () {
    const wanted = needs(ask)
    const statuses = yield* library.registry.servers
    const names = new Map<string, string>()
    for (const status of statuses) {
      if (status.reachable) for (const model of status.models) names.set(canonical(model), model)
    }
    const preferred = canonical(settings.defaultModel ?? library.settings.model)
    const now = Date.now()
    const scored: Array<Scored> = []
    for (const [key, model] of names) {
      const info = yield* Effect.orElseSucceed(library.registry.modelInfo(model), () => undefined)
      if (info === undefined || !completes(info)) continue
      const tools = wanted.tools ? can(info, "tools") : 2
      const vision = wanted.vision ? can(info, "vision") : 2
      const insert = wanted.insert ? can(info, "insert") : 2
      if (tools === 0 || vision === 0 || insert === 0) continue
      const hosts = yield* Effect.orElseSucceed(library.locate(model), (): ReadonlyArray<Host> => [])
      let rested = 0
      let resident = 0
      let idle = 0
      for (const host of hosts) {
        const snapshot = library.fleet.snapshot(host.server.url, host.model)
        if (snapshot.breaker === "open") continue
        rested = 1
        if ((snapshot.residentUntil ?? 0) > now) {
          resident = 1
          if (snapshot.inFlight === 0) idle = 1
        }
      }
      const room =
        info.context_length === undefined || info.context_length >= wanted.prompt + (ask.request.maxTokens ?? 256)
          ? 1
          : 0
      const chosen = key === preferred ? 1 : 0
      scored.push({ model, score: [room, rested, tools + vision + insert, resident, chosen, idle, sizeOf(info)] })
    }
    scored.sort(compare)
    const found = scored.slice(0, maxAuto).map(({ model }): Candidate => ({ model, only: undefined, shown: autoShown }))
    if (found.length > 0) return found
    // Without any server there is still the model that is built in. It does not stand in for servers that are down.
    if (statuses.length === 0 && !wanted.tools && !wanted.vision && !wanted.insert) {
      return [{ model: demoModel, only: undefined, shown: autoShown }]
    }
    if (statuses.length > 0 && !statuses.some((status) => status.reachable)) {
      throw new Refusal(make(503, "No server answers.", "no_server_answers", null, 5_000))
    }
    const lacks = [
      wanted.tools ? "call tools" : "",
      wanted.vision ? "see images" : "",
      wanted.insert ? "fill in the middle" : ""
    ].filter((one) => one !== "")
    const reason = lacks.length === 0 ? "can answer" : `is known to ${lacks.join(" and ")}`
    throw new Refusal(make(404, `No model on the servers ${reason}.`, "model_not_found", "model"))
  })

const withProvider = (library: Library, candidate: Candidate, name: string) =>
  Effect.map(library.locate(candidate.model), (hosts) => {
    if (hosts.some((host) => candidate.only?.(host) !== false)) return [candidate]
    throw new Refusal(make(404, `No server of that kind has the model '${name}'.`, "model_not_found", "model"))
  })

/**
 * The models for a request: at once where the name says it, else after the servers were asked.
 *
 * @since 0.1.0
 * @category constructors
 */
export const candidates = (
  library: Library,
  settings: Settings,
  ask: Ask
): ReadonlyArray<Candidate> | Effect.Effect<ReadonlyArray<Candidate>, ModelNotFound | NoServers> => {
  const name =
    ask.model?.trim() || settings.defaultModel || (library.settings.modelNamed ? library.settings.model : "auto")
  const chain = chainOf(settings, name)
  if (chain !== undefined) {
    const models = (names: ReadonlyArray<string>) =>
      names.map((one): Candidate => {
        const { model, only } = named(one)
        return { model, only, shown: () => model }
      })
    const at = chain.indexOf("auto")
    if (at === -1) return models(chain)
    const fitting = auto(library, settings, ask)
    if (chain.length === 1) return fitting
    const others = models(chain.filter((one) => one !== "auto"))
    return Effect.map(
      // Where nothing fits, the others still may.
      Effect.catchAllDefect(fitting, (why) => (why instanceof Refusal ? Effect.succeed([]) : Effect.die(why))),
      (any) => [
        ...others.slice(0, at),
        ...any.filter(({ model }) => others.every((other) => other.model !== model)),
        ...others.slice(at)
      ]
    )
  }
  if (isAuto(name)) return auto(library, settings, ask)
  const candidate = named(name)
  return candidate.only === undefined ? [candidate] : withProvider(library, candidate, name)
}
