import { Effect } from "effect"
import { describe, expect, it } from "vitest"
import { LineTracker } from "../../src/conditions/connectivity.js"
import { ResourceTracker } from "../../src/conditions/resources.js"
import { thresholdsOf } from "../../src/conditions/thresholds.js"
import { Chat, Conditions, Cortex, Registry } from "../../src/index.js"
import { type Placement, type Prefer, placementOf } from "../../src/modelSelection/policy.js"
import { fromOptions, type Server } from "../../src/Server.js"
import { type Fake, useFleet } from "../support/fleet.js"

const fleet = useFleet()

const server = (url: string): Server => {
  const made = fromOptions(url, "test")
  if (made._tag === "Left") throw made.left
  return made.right
}
const here = server("http://localhost:11434")
const far = server("http://far:11434")
const farther = server("http://farther:11434")

const machine = (state: Conditions.ResourceState, reason = "CPU 99 %"): Conditions.Resources => ({
  state,
  reason: state === "AVAILABLE" ? "" : reason,
  cpu: 99,
  memory: 10,
  load: 1,
  gpu: undefined,
  at: 0
})
const line = ({ url }: { readonly url: string }, state: Conditions.LineState): Conditions.Line => ({
  server: url,
  state,
  reason: state === "OPTIMAL" ? "" : state === "DEGRADED" ? "round trip 900 ms" : "it is not reached",
  latency: 10,
  loss: 0,
  throughput: undefined,
  at: 0
})

const limit = "this machine is at its limit (CPU 99 %)"
const slow = "the line to remote servers is bad (round trip 900 ms)"
const gone = "no remote server is reached"
const remoteFirst = `${limit}: remote servers go first`
const bothSlow = `${limit}, and ${slow}: local servers go first all the same`
const bothGone = `${limit}, and ${gone}: local servers go first all the same`

type Row = readonly [
  resources: Conditions.ResourceState | undefined,
  lines: readonly [far: Conditions.LineState, farther: Conditions.LineState] | undefined,
  prefer: Prefer,
  first: "any" | "here" | "far" | "farther" | "far, farther" | "here, far" | "here, farther",
  reason: string
]

/** One server here, two elsewhere. */
const rows: ReadonlyArray<Row> = [
  // Nothing is known yet.
  [undefined, undefined, "fastest", "any", ""],
  [undefined, undefined, "local", "here", "local servers are preferred"],
  [undefined, undefined, "remote", "far, farther", "remote servers are preferred"],
  // All is well: as it is preferred.
  ["AVAILABLE", ["OPTIMAL", "OPTIMAL"], "fastest", "any", ""],
  ["AVAILABLE", ["OPTIMAL", "OPTIMAL"], "local", "here", "local servers are preferred"],
  ["AVAILABLE", ["OPTIMAL", "OPTIMAL"], "remote", "far, farther", "remote servers are preferred"],
  // A machine with less left than usual is no reason to leave it.
  ["CONSTRAINED", ["OPTIMAL", "OPTIMAL"], "fastest", "any", ""],
  ["CONSTRAINED", ["OPTIMAL", "OPTIMAL"], "local", "here", "local servers are preferred"],
  ["CONSTRAINED", ["OPTIMAL", "OPTIMAL"], "remote", "far, farther", "remote servers are preferred"],
  ["CONSTRAINED", ["DEGRADED", "DEGRADED"], "fastest", "here", `${slow}: local servers go first`],
  ["CONSTRAINED", ["DISCONNECTED", "DISCONNECTED"], "remote", "here", `${gone}: local servers go first`],
  // This machine is at its limit: elsewhere, whatever is preferred.
  ["CRITICAL", ["OPTIMAL", "OPTIMAL"], "fastest", "far, farther", remoteFirst],
  ["CRITICAL", ["OPTIMAL", "OPTIMAL"], "local", "far, farther", remoteFirst],
  ["CRITICAL", ["OPTIMAL", "OPTIMAL"], "remote", "far, farther", remoteFirst],
  ["CRITICAL", undefined, "fastest", "far, farther", remoteFirst],
  ["CRITICAL", undefined, "local", "far, farther", remoteFirst],
  // One of two lines is bad: the other one.
  ["CRITICAL", ["DEGRADED", "OPTIMAL"], "fastest", "farther", remoteFirst],
  ["CRITICAL", ["OPTIMAL", "DEGRADED"], "local", "far", remoteFirst],
  ["CRITICAL", ["DISCONNECTED", "OPTIMAL"], "remote", "farther", remoteFirst],
  ["CRITICAL", ["OPTIMAL", "DISCONNECTED"], "local", "far", remoteFirst],
  ["AVAILABLE", ["DEGRADED", "OPTIMAL"], "fastest", "here, farther", "servers with a bad line go last"],
  ["AVAILABLE", ["OPTIMAL", "DEGRADED"], "fastest", "here, far", "servers with a bad line go last"],
  ["AVAILABLE", ["DISCONNECTED", "OPTIMAL"], "fastest", "here, farther", "servers with a bad line go last"],
  ["AVAILABLE", ["OPTIMAL", "DISCONNECTED"], "remote", "far", "remote servers are preferred"],
  ["AVAILABLE", ["DEGRADED", "OPTIMAL"], "remote", "farther", "remote servers are preferred"],
  ["AVAILABLE", ["DEGRADED", "OPTIMAL"], "local", "here", "local servers are preferred"],
  [undefined, ["DEGRADED", "OPTIMAL"], "fastest", "here, farther", "servers with a bad line go last"],
  // No line is good: here.
  ["AVAILABLE", ["DEGRADED", "DEGRADED"], "fastest", "here", `${slow}: local servers go first`],
  ["AVAILABLE", ["DEGRADED", "DEGRADED"], "local", "here", `${slow}: local servers go first`],
  ["AVAILABLE", ["DEGRADED", "DEGRADED"], "remote", "here", `${slow}: local servers go first`],
  ["AVAILABLE", ["DISCONNECTED", "DISCONNECTED"], "fastest", "here", `${gone}: local servers go first`],
  ["AVAILABLE", ["DISCONNECTED", "DISCONNECTED"], "local", "here", `${gone}: local servers go first`],
  ["AVAILABLE", ["DISCONNECTED", "DISCONNECTED"], "remote", "here", `${gone}: local servers go first`],
  ["AVAILABLE", ["DEGRADED", "DISCONNECTED"], "remote", "here", `${slow}: local servers go first`],
  [undefined, ["DISCONNECTED", "DISCONNECTED"], "remote", "here", `${gone}: local servers go first`],
  // Both are bad: here, and the reason says so.
  ["CRITICAL", ["DEGRADED", "DEGRADED"], "fastest", "here", bothSlow],
  ["CRITICAL", ["DEGRADED", "DEGRADED"], "local", "here", bothSlow],
  ["CRITICAL", ["DEGRADED", "DEGRADED"], "remote", "here", bothSlow],
  ["CRITICAL", ["DISCONNECTED", "DISCONNECTED"], "fastest", "here", bothGone],
  ["CRITICAL", ["DISCONNECTED", "DISCONNECTED"], "local", "here", bothGone],
  ["CRITICAL", ["DISCONNECTED", "DISCONNECTED"], "remote", "here", bothGone],
  ["CRITICAL", ["DEGRADED", "DISCONNECTED"], "fastest", "here", bothSlow]
]

const snapshotOf = (resources: Row[0], lines: Row[1]): Conditions.Snapshot => ({
  resources: resources === undefined ? undefined : machine(resources),
  lines: lines === undefined ? [] : [line(far, lines[0]), line(farther, lines[1])]
})
const firstOf = (placement: Placement | undefined): string => {
  const named = [
    ["here", here],
    ["far", far],
    ["farther", farther]
  ] as const
  return placement === undefined
    ? "any"
    : named
        .filter(([, one]) => placement.prefers(one))
        .map(([name]) => name)
        .join(", ")
}

describe("which servers auto tries first", () => {
  const sides = { hasLocal: true, hasRemote: true }

  it.each(rows)("machine %s, lines %j, prefer %s: %s (%s)", (resources, lines, prefer, first, reason) => {
    const placement = placementOf(prefer, snapshotOf(resources, lines), sides)
    expect([firstOf(placement), placement?.reason ?? ""]).toEqual([first, reason])
  })

  const others: ReadonlyArray<readonly [Row[0], Row[1], Prefer, string]> = [
    ["CRITICAL", undefined, "remote", "any"],
    ["CRITICAL", ["OPTIMAL", "OPTIMAL"], "local", "any"],
    ["CRITICAL", ["DEGRADED", "OPTIMAL"], "local", "here, farther"],
    ["CRITICAL", ["DEGRADED", "DEGRADED"], "local", "any"],
    ["AVAILABLE", ["DISCONNECTED", "OPTIMAL"], "fastest", "here, farther"],
    ["AVAILABLE", ["DISCONNECTED", "DISCONNECTED"], "remote", "any"]
  ]
  it.each(others)("without a local server: machine %s, lines %j, prefer %s: %s", (resources, lines, prefer, first) => {
    const placement = placementOf(prefer, snapshotOf(resources, lines), { hasLocal: false, hasRemote: true })
    expect(firstOf(placement)).toBe(first)
  })

  it.each([
    ["remote", "AVAILABLE", "farther"],
    ["fastest", "AVAILABLE", "here, farther"],
    ["local", "CRITICAL", "farther"]
  ] as const)(
    "a connection that was not checked yet counts as good (prefer %s, machine %s: %s)",
    (prefer, state, first) => {
      for (const bad of ["DEGRADED", "DISCONNECTED"] as const) {
        const placement = placementOf(
          prefer,
          { resources: machine(state), lines: [line(far, bad)] },
          { ...sides, remotes: 2 }
        )
        expect(firstOf(placement)).toBe(first)
      }
    }
  )

  it.each(["AVAILABLE", "CONSTRAINED", "CRITICAL"] as const)(
    "with local servers only nothing matters (%s)",
    (state) => {
      for (const prefer of ["local", "remote", "fastest"] as const) {
        expect(placementOf(prefer, snapshotOf(state, undefined), { hasLocal: true, hasRemote: false })).toBeUndefined()
      }
    }
  )

  it("names no server in its reason", () => {
    for (const [resources, lines, prefer] of rows) {
      expect(placementOf(prefer, snapshotOf(resources, lines), sides)?.reason ?? "").not.toMatch(/http|far:/)
    }
  })
})

describe("over time", () => {
  const window = 30_000
  /** Where it goes at each second, given what is read of this machine and of the line then. */
  const run = (
    seconds: number,
    cpu: (second: number) => number,
    latency: (second: number) => number
  ): ReadonlyArray<string> => {
    const thresholds = thresholdsOf({})
    const resources = new ResourceTracker(thresholds)
    const tracker = new LineTracker(far.url, thresholds)
    return Array.from({ length: seconds }, (_, second) => {
      const at = second * 1_000
      const observed = resources.observe({ cpu: cpu(second), memory: 1, load: 0, gpu: undefined }, at)
      const seen = tracker.observe({ reached: 1, lost: 0, latency: latency(second), throughput: undefined }, at)
      return firstOf(placementOf("local", { resources: observed, lines: [seen] }, { hasLocal: true, hasRemote: true }))
    })
  }
  const movesOf = (places: ReadonlyArray<string>) =>
    places.flatMap((place, at) => (at > 0 && place !== places[at - 1] ? [at] : []))

  it("moves to remote servers while this machine is at its limit, and back", () => {
    const places = run(
      300,
      (second) => (second >= 60 && second < 150 ? 99 : 10),
      () => 20
    )
    expect(movesOf(places)).toEqual([60, 150])
    expect([places[0], places[100], places[299]]).toEqual(["here", "far, farther", "here"])
  })

  it.each([1, 2, 5, 7, 13])("moves at most once per window if readings change every %d s", (period) => {
    const places = run(
      600,
      (second) => (Math.floor(second / period) % 2 === 0 ? 99 : 10),
      () => 20
    )
    const moves = movesOf(places)
    expect(moves.length).toBeGreaterThan(3)
    for (const [i, at] of moves.entries())
      if (i > 0) expect((at - (moves[i - 1] ?? 0)) * 1_000).toBeGreaterThanOrEqual(window)
  })

  it("returns when the connection degrades under load, and leaves again when it is good", () => {
    const places = run(
      400,
      () => 99,
      (second) => (second >= 100 && second < 200 ? 900 : 20)
    )
    expect([places[50], places[150], places[399]]).toEqual(["far, farther", "here", "far, farther"])
    expect(movesOf(places)).toHaveLength(2)
  })
})

describe.each(["ollama", "openai"] as const)("auto over a fleet (%s)", (protocol) => {
  const counts = (...servers: ReadonlyArray<Fake>) => servers.map(({ chatRequests }) => chatRequests.length)
  const made = async (conditions: () => Partial<Conditions.Snapshot>, options: Cortex.Options = {}) => {
    const near = await fleet[protocol]({ models: ["a:1b"], reply: "from here" })
    const away = await fleet[protocol]({ models: ["a:1b"], reply: "from afar" })
    const servers = [{ url: near.url }, { url: away.url, local: false }]
    const layer = Cortex.layer(
      { configFile: false, servers, ...options },
      { conditions: Conditions.layerTest(conditions) }
    )
    // A choice waits only briefly for the servers whose lists come later than others.
    const known = Effect.flatMap(Registry.Registry, ({ servers }) => servers)
    const run = <A, E>(effect: Effect.Effect<A, E, Cortex.Services>) =>
      Effect.runPromise(Effect.provide(Effect.zipRight(known, effect), layer))
    const awayLine = (state: Conditions.LineState) => [line(away, state)]
    return { near, away, run, awayLine }
  }
  const ask = (count: number, model = "auto") =>
    Effect.all(Array.from({ length: count }, (_, i) => Chat.text(`Hi ${i}`, { model, routing: "random" })))

  it.each<[Conditions.ResourceState, Prefer, string]>([
    ["AVAILABLE", "local", "from here"],
    ["AVAILABLE", "remote", "from afar"],
    ["CRITICAL", "local", "from afar"],
    ["CRITICAL", "fastest", "from afar"]
  ])("%s, prefer %s: %s", async (state, prefer, text) => {
    const { run } = await made(() => ({ resources: machine(state) }), { auto: { prefer } })
    expect(new Set(await run(ask(8)))).toEqual(new Set([text]))
  })

  it("tries the other side if the first one fails, and if all of it is busy", async () => {
    const { away, near, run } = await made(() => ({ resources: machine("CRITICAL") }))
    await away.setBehaviour({ faults: { kind: "status", code: 500 } })
    expect(await run(ask(3))).toEqual(["from here", "from here", "from here"])
    expect(counts(away)[0]).toBeGreaterThan(0)
    expect(counts(near)[0]).toBe(3)
  })

  it("resumes an interrupted answer on the other side", async () => {
    const { away, near, run } = await made(() => ({ resources: machine("CRITICAL") }))
    await away.setBehaviour({ reply: "one two three four", faults: { kind: "cut", after: 2 } })
    await near.setBehaviour({ reply: "one two three four" })
    expect(await run(ask(1))).toEqual(["one two three four"])
    expect(counts(near, away)).toEqual([1, 1])
  })

  it("moves back and forth with the conditions, and a named model stays", async () => {
    let state: Conditions.ResourceState = "AVAILABLE"
    const { near, away, run } = await made(() => ({ resources: machine(state) }), { auto: { prefer: "local" } })
    const seen = await run(
      Effect.gen(function* () {
        const places: Array<string> = []
        for (const next of ["AVAILABLE", "CRITICAL", "AVAILABLE"] as const) {
          state = next
          places.push(...(yield* ask(3)))
        }
        return places
      })
    )
    expect(seen).toEqual([...Array(3).fill("from here"), ...Array(3).fill("from afar"), ...Array(3).fill("from here")])
    state = "CRITICAL"
    await run(ask(40, "a:1b"))
    expect(counts(near)[0]).toBeGreaterThan(6)
    expect(counts(away)[0]).toBeGreaterThan(3)
  })
})
