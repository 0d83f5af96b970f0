import { type ChatEvent, type ChatStream, type Cortex, type CortexOptions, createCortex } from "../../src/promise.js"
import type { ServerOptions } from "../../src/Server.js"
import {
  type FakeAnthropicOptions,
  type FakeOllamaOptions,
  type FakeOpenAIOptions,
  type FakeServer,
  startFakeAnthropic,
  startFakeOllama,
  startFakeOpenAI
} from "./fakeServer.js"
import { useKeep } from "./keep.js"

/** The model that the fakes of a test have. Nothing knows its context length but the fakes. */
export const model = "m:1b"

/** Any fake. */
export type Fake = FakeServer

/** Fakes and fleets that end with the test that made them. */
export const useFleet = () => {
  const keep = useKeep()
  return {
    keep,
    ollama: async (options: FakeOllamaOptions = {}) => keep(await startFakeOllama({ models: [model], ...options })),
    anthropic: async (options: FakeAnthropicOptions = {}) =>
      keep(await startFakeAnthropic({ models: [model], ...options })),
    openai: async (options: FakeOpenAIOptions = {}) => keep(await startFakeOpenAI({ models: [model], ...options })),
    /** A fleet of these servers; `model` is the default model. */
    cortex: (servers: ReadonlyArray<string | ServerOptions | Fake>, options: CortexOptions = {}): Cortex =>
      keep(createCortex({ servers: servers.map(serverOf), configFile: false, model, ...options }))
  }
}

const serverOf = (server: string | ServerOptions | Fake): string | ServerOptions =>
  typeof server === "string" || !("requests" in server) ? server : { url: server.url }

/** Servers in a fixed order: the first is tried first. */
export const inOrder = (...servers: ReadonlyArray<Fake>): ReadonlyArray<ServerOptions> =>
  servers.map(({ url }, priority) => ({ url, priority }))

/** The error with which a promise rejects. */
// biome-ignore lint/suspicious/noExplicitAny: tests look at every field of every error.
export const failure = (promise: Promise<unknown>): Promise<any> =>
  promise.then(
    (value) => {
      throw new Error(`expected a failure, got ${JSON.stringify(value)}`)
    },
    (error: unknown) => error
  )

/** The events of a stream to its end. */
export const eventsOf = async (stream: ChatStream): Promise<ReadonlyArray<ChatEvent>> => {
  const events: Array<ChatEvent> = []
  for await (const event of stream) events.push(event)
  return events
}

/** The text of events. */
export const textOf = (events: ReadonlyArray<ChatEvent>): string =>
  events.map((event) => (event.type === "token" ? event.content : "")).join("")

/** The number of chat requests that each server saw. */
export const chats = (...servers: ReadonlyArray<Fake>): ReadonlyArray<number> =>
  servers.map((server) => server.chatRequests.length)
