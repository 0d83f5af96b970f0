import { Effect, Layer, Stream, TestClock, TestContext } from "effect"
import { describe, expect, it } from "vitest"
import { Chat, Conditions, Cortex, Fleet } from "../../src/index.js"
import { type Fake, useFleet } from "../support/fleet.js"

const fleet = useFleet()
const noon = 20_000 * 86_400_000 + 43_200_000
const gigabyte = 1e9

type Side = "near" | "far"
type Model = string | { readonly name: string; readonly size?: number; readonly capabilities?: ReadonlyArray<string> }

/** A server that is local (`near`) or remote (`far`), and what it has. */
interface ServerRow {
  readonly side: Side
  readonly protocol?: "ollama" | "openai"
  readonly models: ReadonlyArray<Model>
  readonly loaded?: ReadonlyArray<string>
  readonly priority?: number
  /** Models that it cannot load. */
  readonly tooLarge?: ReadonlyArray<string>
}

interface Row {
  readonly name: string
  readonly servers: ReadonlyArray<ServerRow>
  readonly machine?: Conditions.ResourceState
  readonly line?: Conditions.LineState
  readonly prefer?: "local" | "remote" | "fastest"
  readonly ceiling?: number
  readonly request?: Chat.Options
  /** Model and side of the answer, and what its reason says; or the tag of the error. */
  readonly answer: readonly [model: string, side: Side, reason: RegExp] | string
}

const small = "small:1b"
const both: ReadonlyArray<ServerRow> = [
  { side: "near", models: [small] },
  { side: "far", models: [small] }
]
const huge = { name: "big:405b", size: 250_000 * gigabyte }
const weather = {
  name: "weather",
  description: "The weather.",
  parameters: { type: "object", properties: {} }
} as const

const rows: ReadonlyArray<Row> = [
  // One side only.
  { name: "only a local server", servers: [{ side: "near", models: [small] }], answer: [small, "near", /only one/] },
  {
    name: "only a local server, at its limit",
    servers: [{ side: "near", models: [small] }],
    machine: "CRITICAL",
    answer: [small, "near", /only one/]
  },
  { name: "only a remote server", servers: [{ side: "far", models: [small] }], answer: [small, "far", /only one/] },
  {
    name: "only a remote server, over a bad line",
    servers: [{ side: "far", models: [small] }],
    line: "DEGRADED",
    prefer: "local",
    answer: [small, "far", /only one/]
  },
  // Conditions.
  {
    name: "all is well, local preferred",
    servers: both,
    prefer: "local",
    answer: [small, "near", /local servers are preferred/]
  },
  {
    name: "all is well, remote preferred",
    servers: both,
    prefer: "remote",
    answer: [small, "far", /remote servers are preferred/]
  },
  {
    name: "a machine at its limit",
    servers: both,
    machine: "CRITICAL",
    prefer: "local",
    answer: [small, "far", /at its limit \(CPU 99 %\): remote/]
  },
  {
    name: "a bad line",
    servers: both,
    line: "DEGRADED",
    prefer: "remote",
    answer: [small, "near", /line to remote servers is bad/]
  },
  {
    name: "no line",
    servers: both,
    line: "DISCONNECTED",
    prefer: "remote",
    answer: [small, "near", /no remote server is reached/]
  },
  {
    name: "both bad",
    servers: both,
    machine: "CRITICAL",
    line: "DEGRADED",
    prefer: "remote",
    answer: [small, "near", /local servers go first all the same/]
  },
  {
    name: "both bad, and only a remote server can do it",
    servers: [
      { side: "near", models: ["nomic-embed-text:latest"] },
      { side: "far", models: [small] }
    ],
    machine: "CRITICAL",
    line: "DEGRADED",
    answer: [small, "far", /only one/]
  },
  // Memory.
  {
    name: "memory too small for the larger one",
    servers: [{ side: "near", models: [huge, small] }],
    answer: [small, "near", /most capable of|only one/]
  },
  { name: "a cold 405b alone", servers: [{ side: "near", models: [huge] }], answer: ["big:405b", "near", /./] },
  {
    name: "a 405b that is loaded",
    servers: [{ side: "near", models: [huge, small], loaded: ["big:405b"] }],
    answer: ["big:405b", "near", /loaded already/]
  },
  {
    name: "a cold 405b here, a small one elsewhere",
    servers: [
      { side: "near", models: [huge] },
      { side: "far", models: [small] }
    ],
    prefer: "local",
    answer: [small, "far", /./]
  },
  // Requests.
  {
    name: "tools, which only the remote model has",
    servers: [
      { side: "near", models: [{ name: small, capabilities: ["completion"] }] },
      { side: "far", models: [{ name: "able:1b", capabilities: ["completion", "tools"] }] }
    ],
    prefer: "local",
    request: { tools: [weather] },
    answer: ["able:1b", "far", /only one/]
  },
  // Priority.
  {
    name: "a local server of a better priority",
    servers: [
      { side: "near", models: [small], priority: 0 },
      { side: "far", models: [small], priority: 1 }
    ],
    answer: [small, "near", /only one/]
  },
  {
    name: "a remote server of a better priority",
    servers: [
      { side: "near", models: [small], priority: 1 },
      { side: "far", models: [small], priority: 0 }
    ],
    answer: [small, "far", /only one/]
  },
  // Private.
  {
    name: "private, remote preferred",
    servers: both,
    prefer: "remote",
    request: { private: true },
    answer: [small, "near", /only one/]
  },
  {
    name: "private, on a machine at its limit",
    servers: both,
    machine: "CRITICAL",
    request: { private: true },
    answer: [small, "near", /only one/]
  },
  {
    name: "private, and only a remote server has one",
    servers: [{ side: "far", models: [small] }],
    request: { private: true },
    answer: "NoLocalServer"
  },
  // The ceiling.
  {
    name: "the ceiling reached",
    servers: both,
    prefer: "remote",
    ceiling: 1,
    answer: [small, "near", /ceiling of 1 tokens per day/]
  },
  {
    name: "the ceiling reached, on a machine at its limit",
    servers: both,
    machine: "CRITICAL",
    ceiling: 1,
    answer: [small, "near", /ceiling of 1 tokens per day/]
  },
  {
    name: "the ceiling reached, and only a remote server has one",
    servers: [{ side: "far", models: [small] }],
    ceiling: 1,
    answer: "RemoteTokensExhausted"
  },
  {
    name: "the ceiling reached, and private",
    servers: both,
    ceiling: 1,
    request: { private: true },
    answer: [small, "near", /only one/]
  },
  {
    name: "the ceiling not reached",
    servers: both,
    prefer: "remote",
    ceiling: 3,
    answer: [small, "far", /remote servers are preferred/]
  }
]

const run = async (row: Row, stream: boolean) => {
  const fakes: Array<readonly [Fake, ServerRow]> = []
  for (const one of row.servers) {
    const { loaded, models, protocol = "ollama", tooLarge = [] } = one
    const fake = await fleet[protocol]({
      models: models as never,
      reply: "an answer",
      ...(loaded === undefined ? {} : { loaded }),
      faults: (_, body) =>
        tooLarge.includes(body?.model)
          ? {
              kind: "status",
              code: 500,
              body: { error: "model requires more system memory (9 GiB) than is available" }
            }
          : undefined
    })
    fakes.push([fake, one])
  }
  const snapshot: Partial<Conditions.Snapshot> = {
    resources: {
      state: row.machine ?? "AVAILABLE",
      reason: "CPU 99 %",
      cpu: 99,
      memory: 1,
      load: 0,
      gpu: undefined,
      at: noon
    },
    lines: fakes.flatMap(([{ url }, { side }]) =>
      side === "near"
        ? []
        : [
            {
              server: url,
              state: row.line ?? "OPTIMAL",
              reason: "round trip 900 ms",
              latency: 900,
              loss: 0,
              throughput: undefined,
              at: noon
            }
          ]
    )
  }
  const layer = Cortex.layer(
    {
      configFile: false,
      servers: fakes.map(([{ url }, { priority, protocol = "ollama", side }]) => ({
        url,
        protocol,
        local: side === "near",
        ...(priority === undefined ? {} : { priority })
      })),
      auto: { prefer: row.prefer ?? "fastest" },
      defaults: { retryBackoff: 1 },
      remoteTokensPerDay: row.ceiling
    },
    { conditions: Conditions.layerTest(snapshot) }
  )
  const options = { model: "auto", ...row.request }
  const asked = stream
    ? Effect.map(Stream.runCollect(Chat.stream("Hi", options)), (events) => {
        const all = [...events]
        const end = all.findLast((event) => event.type === "end")
        const meta = all.findLast((event) => event.type === "meta" && event.meta.type === "attempt")
        const decision = meta?.type === "meta" && meta.meta.type === "attempt" ? meta.meta.decision : undefined
        return {
          model: end?.type === "end" ? end.model : "",
          server: end?.type === "end" ? end.server : "",
          reason: decision?.reason ?? ""
        }
      })
    : Effect.map(Chat.complete("Hi", options), ({ decision, model, server }) => ({
        model,
        server,
        reason: decision.reason
      }))
  const result = await Effect.runPromise(
    Effect.gen(function* () {
      yield* TestClock.setTime(noon)
      const live = yield* Fleet.Fleet
      // What remote servers had today.
      live.spendRemoteTokens(2)
      return yield* Effect.either(asked)
    }).pipe(Effect.provide(Layer.provideMerge(layer, TestContext.TestContext)))
  )
  if (result._tag === "Left") return (result.left as { readonly _tag: string })._tag
  const { model, reason, server } = result.right
  const side = fakes.find(([{ url }]) => url === server)?.[1].side
  return { model, side, reason }
}

describe.each([false, true])("what auto chooses, and its words (stream: %s)", (stream) => {
  it.each(rows.map((row) => [row.name, row] as const))("%s", async (_, row) => {
    const found = await run(row, stream)
    const { answer } = row
    if (typeof answer === "string") expect(found).toBe(answer)
    else expect(found).toEqual({ model: answer[0], side: answer[1], reason: expect.stringMatching(answer[2]) })
  })
})
