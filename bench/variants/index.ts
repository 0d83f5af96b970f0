/** Every variant by name. Its module loads only in the worker that measures it. */
import type { Protocol } from "../servers.js"
import type { Open } from "./variant.js"

export interface Variant {
  readonly title: string
  readonly protocol: Protocol
  readonly ours: boolean
  /** What it is measured in. */
  readonly suites: ReadonlyArray<"call" | "stream">
  readonly load: () => Promise<Open>
}

const both = ["call", "stream"] as const
const theirs = { ours: false, suites: both } as const
const ours = { ours: true, suites: both } as const

export const variants = {
  floor: {
    title: "floor: undici by hand",
    protocol: "ollama",
    ...theirs,
    load: async () => (await import("./floor.js")).openOllama
  },
  ollama: { title: "ollama", protocol: "ollama", ...theirs, load: async () => (await import("./ollama.js")).open },
  facade: {
    title: "aicortex/promise",
    protocol: "ollama",
    ...ours,
    load: async () => (await import("./facade.js")).open
  },
  effect: {
    title: "aicortex (Effect, per chunk)",
    protocol: "ollama",
    ...ours,
    load: async () => (await import("./effect.js")).open
  },
  effectForEach: {
    title: "aicortex (Effect, per event)",
    protocol: "ollama",
    ours: true,
    suites: ["stream"],
    load: async () => (await import("./effect.js")).openForEach
  },
  floorOpenai: {
    title: "floor, OpenAI protocol",
    protocol: "openai",
    ...theirs,
    load: async () => (await import("./floor.js")).openOpenai
  },
  openai: { title: "openai", protocol: "openai", ...theirs, load: async () => (await import("./openai.js")).open },
  ai: {
    title: "ai + openai-compatible",
    protocol: "openai",
    ...theirs,
    load: async () => (await import("./ai.js")).open
  },
  facadeOpenai: {
    title: "aicortex/promise, OpenAI",
    protocol: "openai",
    ...ours,
    load: async () => (await import("./facade.js")).open
  }
} as const satisfies { readonly [name: string]: Variant }

export type Name = keyof typeof variants

export const names = Object.keys(variants) as ReadonlyArray<Name>

/** The floor of the variant's own protocol. */
export const floorOf = (name: Name): Name => (variants[name].protocol === "openai" ? "floorOpenai" : "floor")
