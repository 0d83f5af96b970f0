/** The servers that are struck: five fakes, and two processes with real inference. */

import { type DemoServer, useDemoServers } from "../../test/support/demoProcess.js"
import {
  type FakeOptions,
  type FakeServer,
  type Phase,
  type Strike,
  startFakeOllama,
  startFakeOpenAI,
  unusedPort
} from "../../test/support/fakeServer.js"
import { type Member, nameOf } from "./plan.js"
import { idOf, reply } from "./questions.js"

export const models = { wide: "wide:1b", narrow: "narrow:3b", real: "tiny:2m" } as const

/** A server under the plan. */
export interface Target extends Member {
  readonly url: string
  readonly protocol: "openai" | undefined
  readonly strike: (strike: Strike | undefined) => Promise<void>
}

/**
 * A request was hit, or there was none to hit, which is what `idle` says. One without an id is the trial of how a server
 * goes on with an answer, for all that wait for it.
 */
export type Hit = {
  readonly server: string
  /** As `nameOf` has it. */
  readonly fault: string
} & ({ readonly phase: Phase; readonly id: number | undefined } | { readonly phase: "idle" })

export interface Fleet {
  readonly targets: ReadonlyArray<Target>
  readonly hits: ReadonlyArray<Hit>
  readonly close: () => Promise<void>
}

const bothModels = [models.wide, models.narrow]

const kinds: ReadonlyArray<readonly [string, ReadonlyArray<string>, (options: FakeOptions) => Promise<FakeServer>]> = [
  ["ollama", bothModels, (options) => startFakeOllama(options)],
  ["old ollama", [models.wide], (options) => startFakeOllama({ ...options, debugRender: false })],
  ["llama.cpp", bothModels, (options) => startFakeOpenAI({ ...options, flavour: "llamacpp" })],
  ["vllm", bothModels, (options) => startFakeOpenAI({ ...options, flavour: "vllm" })],
  ["openai", [models.wide], (options) => startFakeOpenAI({ ...options, flavour: "openai" })]
]

/** A process that is stopped most of the time, which is what makes it slow. */
const limp = (server: DemoServer, ms: number): (() => void) => {
  let stopped = false
  const timer = setInterval(() => {
    stopped = !stopped
    server.signal(stopped ? "SIGSTOP" : "SIGCONT")
  }, ms)
  return () => {
    clearInterval(timer)
    server.signal("SIGCONT")
  }
}

const process = async (
  name: string,
  start: (port: number) => Promise<DemoServer>,
  hits: Array<Hit>
): Promise<Target & AsyncDisposable> => {
  const port = await unusedPort()
  let server = await start(port)
  let restore: () => unknown = () => {}
  /** Ends the limping of one that is closed in the middle of it: its timer would keep this process. */
  let still = () => {}
  return {
    name,
    models: [models.real],
    process: true,
    url: server.url,
    protocol: "openai",
    strike: async (strike) => {
      await restore()
      restore = () => {}
      if (strike === undefined) return
      const fault = nameOf(strike)
      const hit = server.underWay()
      for (const { begun, seed } of hit)
        hits.push({ server: server.url, fault, phase: begun ? "mid-stream" : "first token", id: seed })
      if (hit.length === 0) hits.push({ server: server.url, fault, phase: "idle" })
      switch (strike.kind) {
        case "kill":
          await server.kill()
          restore = async () => {
            server = await start(port)
          }
          return
        case "stall": {
          server.signal("SIGSTOP")
          restore = () => server.signal("SIGCONT")
          return
        }
        case "slow":
          still = limp(server, strike.ms)
          restore = still
          return
        default:
          throw new Error(`a process cannot be struck by ${strike.kind}`)
      }
    },
    [Symbol.asyncDispose]: async () => {
      still()
      await server.kill()
    }
  }
}

const fake = async (kind: (typeof kinds)[number], hits: Array<Hit>): Promise<Target & AsyncDisposable> => {
  const [name, models, start] = kind
  let server: FakeServer
  const onStruck: FakeOptions["onStruck"] = (strike, phase, { body, kind }) => {
    if (kind === "chat") hits.push({ server: server.url, fault: nameOf(strike), phase, id: idOf(body) })
  }
  // Its port must still be its own when it comes back.
  server = await start({ models, reply, perToken: 10, firstToken: 20, port: await unusedPort(), onStruck })
  return {
    name,
    models,
    process: false,
    url: server.url,
    protocol: undefined,
    strike: async (strike) => {
      if (strike !== undefined && server.inFlight() === 0)
        hits.push({ server: server.url, fault: nameOf(strike), phase: "idle" })
      await server.strike(strike)
    },
    [Symbol.asyncDispose]: () => server.stop()
  }
}

export const startFleet = async (): Promise<Fleet> => {
  const hits: Array<Hit> = []
  const demo = await useDemoServers()
  const targets: Array<Target & AsyncDisposable> = []
  try {
    for (const kind of kinds) targets.push(await fake(kind, hits))
    targets.push(await process("process 1", (port) => demo.start("continue", port), hits))
    targets.push(await process("process 2", (port) => demo.start("echo", port), hits))
  } catch (error) {
    demo.close()
    throw error
  }
  return {
    targets,
    hits,
    close: async () => {
      for (const target of targets) await target[Symbol.asyncDispose]()
      demo.close()
    }
  }
}
