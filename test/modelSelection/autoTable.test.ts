import { Effect, Layer, Stream, TestClock, TestContext } from "effect"
import { describe, expect, it } from "vitest"
import { LineTracker } from "../../src/conditions/connectivity.js"
import { ResourceTracker } from "../../src/conditions/resources.js"
import { thresholdsOf } from "../../src/conditions/thresholds.js"
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
  /** The state of the line to it, where that is not the one of all. */
  readonly line?: Conditions.LineState
}

/** What is read at each second. */
type Readings = (second: number) => number

/** What was read of this machine and of the lines until now, once per second. */
interface History {
  readonly seconds: number
  readonly cpu?: Readings
  readonly latency?: Readings
}

interface Row {
  readonly name: string
  readonly servers: ReadonlyArray<ServerRow>
  readonly machine?: Conditions.ResourceState
  readonly line?: Conditions.LineState
  /** In place of `machine` and `line`. */
  readonly history?: History
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

/** The remote one is asked first where they are otherwise equal. */
const farFirst: ReadonlyArray<ServerRow> = [
  { side: "near", models: [small], priority: 1 },
  { side: "far", models: [small], priority: 0 }
]
const able = (name: string) => ({ name, size: 1_000, capabilities: ["completion"] })
const six = ["x:70b", "x:32b", "x:14b", "x:7b", "x:3b", "x:1b"]
const biased = { extra: { logit_bias: { "42": -100 } } }
const calm: Readings = () => 10
const busyFrom =
  (from: number, until = Number.POSITIVE_INFINITY): Readings =>
  (second) =>
    second >= from && second < until ? 99 : 10
const slowFrom =
  (from: number, until = Number.POSITIVE_INFINITY): Readings =>
  (second) =>
    second >= from && second < until ? 900 : 20

/** Every state of this machine, of the line, and every preference. */
const matrix: ReadonlyArray<
  readonly [Conditions.ResourceState, Conditions.LineState, "local" | "remote" | "fastest", Side, RegExp]
> = [
  ["AVAILABLE", "OPTIMAL", "local", "near", /local servers are preferred/],
  ["AVAILABLE", "OPTIMAL", "remote", "far", /remote servers are preferred/],
  ["AVAILABLE", "OPTIMAL", "fastest", "far", /^the only one that can answer this$/],
  ["AVAILABLE", "DEGRADED", "local", "near", /line to remote servers is bad \(round trip 900 ms\): local/],
  ["AVAILABLE", "DEGRADED", "remote", "near", /line to remote servers is bad \(round trip 900 ms\): local/],
  ["AVAILABLE", "DEGRADED", "fastest", "near", /line to remote servers is bad \(round trip 900 ms\): local/],
  ["AVAILABLE", "DISCONNECTED", "local", "near", /no remote server is reached: local/],
  ["AVAILABLE", "DISCONNECTED", "remote", "near", /no remote server is reached: local/],
  ["AVAILABLE", "DISCONNECTED", "fastest", "near", /no remote server is reached: local/],
  ["CONSTRAINED", "OPTIMAL", "local", "near", /local servers are preferred/],
  ["CONSTRAINED", "OPTIMAL", "remote", "far", /remote servers are preferred/],
  ["CONSTRAINED", "OPTIMAL", "fastest", "far", /^the only one that can answer this$/],
  ["CONSTRAINED", "DEGRADED", "local", "near", /line to remote servers is bad/],
  ["CONSTRAINED", "DEGRADED", "remote", "near", /line to remote servers is bad/],
  ["CONSTRAINED", "DEGRADED", "fastest", "near", /line to remote servers is bad/],
  ["CONSTRAINED", "DISCONNECTED", "local", "near", /no remote server is reached/],
  ["CONSTRAINED", "DISCONNECTED", "remote", "near", /no remote server is reached/],
  ["CONSTRAINED", "DISCONNECTED", "fastest", "near", /no remote server is reached/],
  ["CRITICAL", "OPTIMAL", "local", "far", /at its limit \(CPU 99 %\): remote/],
  ["CRITICAL", "OPTIMAL", "remote", "far", /at its limit \(CPU 99 %\): remote/],
  ["CRITICAL", "OPTIMAL", "fastest", "far", /at its limit \(CPU 99 %\): remote/],
  ["CRITICAL", "DEGRADED", "local", "near", /at its limit .*line to remote servers is bad.* all the same/],
  ["CRITICAL", "DEGRADED", "remote", "near", /at its limit .*line to remote servers is bad.* all the same/],
  ["CRITICAL", "DEGRADED", "fastest", "near", /at its limit .*line to remote servers is bad.* all the same/],
  ["CRITICAL", "DISCONNECTED", "local", "near", /at its limit .*no remote server is reached.* all the same/],
  ["CRITICAL", "DISCONNECTED", "remote", "near", /at its limit .*no remote server is reached.* all the same/],
  ["CRITICAL", "DISCONNECTED", "fastest", "near", /at its limit .*no remote server is reached.* all the same/]
]

const rows: ReadonlyArray<Row> = [
  ...matrix.map(
    ([machine, line, prefer, side, reason]): Row => ({
      name: `${machine}, line ${line}, ${prefer} preferred`,
      servers: farFirst,
      machine,
      line,
      prefer,
      answer: [small, side, reason]
    })
  ),
  // Over time.
  {
    name: "a machine that has just reached its limit",
    servers: farFirst,
    history: { seconds: 61, cpu: busyFrom(60) },
    prefer: "local",
    answer: [small, "far", /at its limit/]
  },
  {
    name: "a machine that has recovered, within the window",
    servers: farFirst,
    history: { seconds: 80, cpu: busyFrom(60, 70) },
    prefer: "local",
    answer: [small, "far", /at its limit/]
  },
  {
    name: "a machine that has recovered",
    servers: farFirst,
    history: { seconds: 100, cpu: busyFrom(60, 70) },
    prefer: "local",
    answer: [small, "near", /local servers are preferred/]
  },
  {
    name: "a machine that flaps, and is busy at this second",
    servers: farFirst,
    // It has changed at 60, back at 90, and may not again before 120.
    history: { seconds: 93, cpu: (second) => (second >= 60 && second !== 90 ? 99 : 10) },
    prefer: "local",
    answer: [small, "near", /local servers are preferred/]
  },
  {
    name: "a line that has just become slow, within the window",
    servers: farFirst,
    history: { seconds: 200, latency: slowFrom(100) },
    prefer: "remote",
    answer: [small, "near", /line to remote servers is bad/]
  },
  {
    name: "a line that has recovered",
    servers: farFirst,
    history: { seconds: 300, latency: slowFrom(100, 150) },
    prefer: "remote",
    answer: [small, "far", /remote servers are preferred/]
  },
  {
    name: "one slow answer is no bad line",
    servers: farFirst,
    history: { seconds: 101, latency: slowFrom(100) },
    prefer: "remote",
    answer: [small, "far", /remote servers are preferred/]
  },
  {
    name: "a bad line under pressure that has become good",
    servers: farFirst,
    history: { seconds: 400, cpu: () => 99, latency: slowFrom(100, 200) },
    prefer: "local",
    answer: [small, "far", /at its limit/]
  },
  {
    name: "nothing has changed for ten minutes",
    servers: farFirst,
    history: { seconds: 600, cpu: calm, latency: slowFrom(1_000) },
    prefer: "local",
    answer: [small, "near", /local servers are preferred/]
  },
  // Several lines.
  {
    name: "one of two lines is bad",
    servers: [
      { side: "far", models: [small], priority: 0, line: "DEGRADED" },
      { side: "far", models: ["other:1b"], priority: 1, line: "OPTIMAL" }
    ],
    answer: ["other:1b", "far", /servers with a bad line go last/]
  },
  {
    name: "one of two lines is bad, and remote is preferred to local",
    servers: [
      { side: "near", models: ["here:1b"], priority: 0 },
      { side: "far", models: [small], priority: 0, line: "DISCONNECTED" },
      { side: "far", models: ["other:1b"], priority: 1, line: "OPTIMAL" }
    ],
    prefer: "remote",
    answer: ["other:1b", "far", /remote servers are preferred/]
  },
  // Loading.
  ...(["ollama", "openai"] as const).flatMap(
    (protocol): ReadonlyArray<Row> => [
      {
        name: `six models of which only the last can be loaded (${protocol})`,
        servers: [{ side: "near", protocol, models: six.map(able), tooLarge: six.slice(0, 5) }],
        answer: ["x:1b", "near", /./]
      },
      {
        name: `six models of which only the last can be loaded, on a remote server (${protocol})`,
        servers: [{ side: "far", protocol, models: six.map(able), tooLarge: six.slice(0, 5) }],
        answer: ["x:1b", "far", /./]
      },
      {
        name: `six models of which none can be loaded (${protocol})`,
        servers: [{ side: "near", protocol, models: six.map(able), tooLarge: six }],
        answer: "AllServersFailed"
      },
      {
        name: `six models, all can be loaded (${protocol})`,
        servers: [{ side: "near", protocol, models: six.map(able) }],
        answer: ["x:70b", "near", protocol === "ollama" ? /^the most capable of 6$/ : /^loaded already$/]
      }
    ]
  ),
  {
    name: "six models here that cannot be loaded, and one elsewhere",
    servers: [
      { side: "near", models: six.map(able), tooLarge: six },
      { side: "far", models: [able("far:1b")] }
    ],
    prefer: "local",
    answer: ["far:1b", "far", /./]
  },
  // What only some protocols can express.
  {
    name: "logit_bias in a mixed fleet",
    servers: [
      { side: "near", models: [able("big:70b")], loaded: ["big:70b"] },
      { side: "far", protocol: "openai", models: [able("small:1b")] }
    ],
    prefer: "local",
    request: biased,
    answer: ["small:1b", "far", /only one/]
  },
  {
    name: "the same fleet without logit_bias",
    servers: [
      { side: "near", models: [able("big:70b")], loaded: ["big:70b"] },
      { side: "far", protocol: "openai", models: [able("small:1b")] }
    ],
    prefer: "local",
    answer: ["big:70b", "near", /loaded already; local servers are preferred/]
  },
  {
    name: "logit_bias in a mixed fleet, on a machine at its limit",
    servers: [
      { side: "near", protocol: "openai", models: [able("small:1b")] },
      { side: "far", models: [able("big:70b")], loaded: ["big:70b"] }
    ],
    machine: "CRITICAL",
    request: biased,
    answer: ["small:1b", "near", /only one/]
  },
  {
    name: "logit_bias where no server can express it",
    servers: [{ side: "near", models: six.map(able) }],
    request: biased,
    answer: "InvalidRequest"
  },
  {
    name: "logit_bias, private, and only a remote server can express it",
    servers: [
      { side: "near", models: [able("big:70b")] },
      { side: "far", protocol: "openai", models: [able("small:1b")] }
    ],
    request: { ...biased, private: true },
    answer: "NoLocalServer"
  },
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

const resourcesAfter = (seconds: number, cpu: Readings): Conditions.Resources => {
  const tracker = new ResourceTracker(thresholdsOf({}))
  let read = tracker.observe({ cpu: cpu(0), memory: 1, load: 0, gpu: undefined }, 0)
  for (let second = 1; second < seconds; second++) {
    read = tracker.observe({ cpu: cpu(second), memory: 1, load: 0, gpu: undefined }, second * 1_000)
  }
  return read
}

const lineAfter = (url: string, seconds: number, latency: Readings): Conditions.Line => {
  const tracker = new LineTracker(url, thresholdsOf({}))
  const see = (second: number) =>
    tracker.observe({ reached: 1, lost: 0, latency: latency(second), throughput: undefined }, second * 1_000)
  let line = see(0)
  for (let second = 1; second < seconds; second++) line = see(second)
  return line
}

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
  const { history } = row
  const resources = history?.cpu === undefined ? undefined : resourcesAfter(history.seconds, history.cpu)
  const snapshot: Partial<Conditions.Snapshot> = {
    resources: resources ?? {
      state: row.machine ?? "AVAILABLE",
      reason: "CPU 99 %",
      cpu: 99,
      memory: 1,
      load: 0,
      gpu: undefined,
      at: noon
    },
    lines: fakes.flatMap(([{ url }, { line, side }]) =>
      side === "near"
        ? []
        : history?.latency !== undefined
          ? [lineAfter(url, history.seconds, history.latency)]
          : [
              {
                server: url,
                state: line ?? row.line ?? "OPTIMAL",
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

it("has at least 60 rows, each of its own name", () => {
  expect(new Set(rows.map(({ name }) => name)).size).toBe(rows.length)
  expect(rows.length).toBeGreaterThanOrEqual(60)
})

describe.each([false, true])("what auto chooses, and its words (stream: %s)", (stream) => {
  it.each(rows.map((row) => [row.name, row] as const))("%s", async (_, row) => {
    const found = await run(row, stream)
    const { answer } = row
    if (typeof answer === "string") expect(found).toBe(answer)
    else expect(found).toEqual({ model: answer[0], side: answer[1], reason: expect.stringMatching(answer[2]) })
  })
})
