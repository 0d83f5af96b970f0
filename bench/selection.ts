/** Fleets in which `auto` chooses among 10,000 candidates: models on servers. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fleet from "../src/Fleet.js"
import * as Direct from "../src/internal/direct.js"
import * as Prng from "../src/internal/prng.js"
import type { ModelInfo } from "../src/Model.js"
import * as ModelSelection from "../src/ModelSelection.js"
import { type Offer, Registry, type Service } from "../src/Registry.js"
import { fromOptions } from "../src/Server.js"
import * as Settings from "../src/Settings.js"

/** In microseconds, for 10,000 candidates. */
export const selectionTarget = 200

export interface Shape {
  readonly models: number
  readonly servers: number
}

/** 10,000 candidates each. */
export const shapes: ReadonlyArray<Shape> = [
  { models: 100, servers: 100 },
  { models: 10_000, servers: 1 },
  { models: 10, servers: 1_000 }
]

/** How many models have no free slot where there is one server: there each lease changes the state of all its models. */
const mostBusy = 500

const withTool = {
  messages: [{ role: "user" as const, content: "Why is the sky blue?" }],
  tools: [{ name: "weather", description: "The weather.", parameters: { type: "object", properties: {} } }],
  maxTokens: undefined,
  suffix: undefined
}

/**
 * Chooses for a request with a tool. Every server has every model; half are loaded, a fiftieth have failed, a fifth are
 * full, and some models cannot call tools or have too short a context.
 */
export const selectionOver = (
  { models, servers }: Shape,
  request: ModelSelection.PromptShape["request"] = withTool
) => {
  const random = Prng.make(models)
  const all = Array.from({ length: servers }, (_, i) =>
    Either.getOrThrow(
      fromOptions({ url: `http://s${i}:11434`, protocol: "ollama", priority: i % 3, maxInFlight: 1_000_000 }, "bench")
    )
  )
  const offers: ReadonlyArray<Offer> = Array.from({ length: models }, (_, i) => {
    const model = `m${i}:${1 + (i % 70)}b`
    const info: ModelInfo = {
      model_name: model,
      family: "llama",
      parameter_size: `${1 + (i % 70)}B`,
      context_length: i % 20 === 0 ? 128 : 8_192,
      size: (1 + (i % 70)) * 6e8,
      capabilities: i % 10 === 0 ? ["completion"] : ["completion", "tools"]
    }
    const hosts = all.map((server) => ({
      server,
      protocol: "ollama" as const,
      model,
      certain: true,
      performance: undefined
    }))
    return { model, info, hosts, contexts: hosts.map(() => undefined) }
  })
  const fleet = Effect.runSync(Effect.provideService(Fleet.make, Settings.CurrentSettings, Settings.empty))
  let busy = 0
  for (const { hosts } of offers) {
    if (servers === 1 && busy >= mostBusy) break
    const pool = fleet.pool(hosts, () => 1)
    for (let at = 0; at < hosts.length; at++) {
      if (random() < 0.02) fleet.lease(pool, at).fail({ reason: "model-not-found", message: "" })
      if (random() < 0.2 && (servers > 1 || busy++ < mostBusy)) for (let n = 0; n < 4; n++) fleet.lease(pool, at)
    }
  }
  for (const { url } of all) {
    const loaded = offers.filter(() => random() < 0.5).map(({ model }) => [model, Number.POSITIVE_INFINITY] as const)
    fleet.resident(url, new Map(loaded))
  }
  const registry = {
    offers: Direct.make(
      () => Effect.runSyncExit(Effect.succeed(offers)),
      () => Effect.succeed(offers)
    )
  }
  const selection = Effect.runSync(
    ModelSelection.make.pipe(
      // Nothing else of it is asked where a model is found.
      Effect.provideService(Registry, registry as unknown as Service),
      Effect.provideService(Fleet.Fleet, fleet),
      Effect.provideService(Settings.CurrentSettings, { ...Settings.empty, servers: all })
    )
  )
  return () => Effect.runSync(selection.select("auto", { request }))
}
