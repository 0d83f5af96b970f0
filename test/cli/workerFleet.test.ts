import type { ChildProcess } from "node:child_process"
import { beforeAll, describe, expect, it, vi } from "vitest"
import { FleetViews, mergeFleets, mergeServers } from "../../src/gateway/events/mergeFleet.js"
import { build, makeHome } from "../support/cliProcess.js"
import { watchEvents } from "../support/eventStream.js"
import { startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { eventually } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

vi.setConfig({ testTimeout: 120_000 })

const model = "m:1b"
const keep = useKeep()
beforeAll(build, 120_000)

const closed = { state: "closed", since: null, rests_until: null, reason: null, why: null } as const
const modelView = (name: string, fields: object = {}) => ({
  model: name,
  ...closed,
  loaded: false,
  loaded_until: null,
  size: null,
  memory: null,
  gpu_memory: null,
  in_flight: 0,
  places: null,
  queued: 0,
  tokens_per_second: null,
  prompt_tokens_per_second: null,
  first_token_ms: null,
  ...fields
})
const view = (server: string, fields: object = {}) => ({
  server,
  protocol: "ollama",
  version: null,
  local: true,
  reachable: true,
  problem: null,
  checked_at: 5,
  draining: false,
  ...closed,
  in_flight: 0,
  in_flight_elsewhere: 0,
  places: null,
  queued: 0,
  round_trip_ms: null,
  tokens_per_second: null,
  first_token_ms: null,
  model_count: 1,
  models: [modelView("a")],
  ...fields
})

describe("merged views of a server from several processes", () => {
  it("requests are summed, slots are shared, speeds are averaged, the worst breaker is shown", () => {
    const open = { state: "open", since: 1, rests_until: 9, reason: "refused", why: "it refuses connections" } as const
    const one = view("s", {
      in_flight: 2,
      places: 4,
      queued: 1,
      models: [modelView("a", { in_flight: 2, places: 4, queued: 1, tokens_per_second: 10 })]
    })
    const two = view("s", {
      ...open,
      in_flight: 3,
      places: 4,
      version: "0.9",
      models: [modelView("a", { in_flight: 3, places: 4, tokens_per_second: 20, ...open }), modelView("b")]
    })
    const merged = mergeServers([one, two])
    expect(merged).toMatchObject({ ...open, in_flight: 5, places: 4, queued: 1, version: "0.9", reachable: true })
    expect(merged.models).toEqual([
      modelView("a", { ...open, in_flight: 5, places: 4, queued: 1, tokens_per_second: 15 }),
      modelView("b")
    ])
    // Control: the figures of a single process are not changed.
    expect(mergeFleets([one], [])).toEqual([one])
    // A server that only this process knows, as after a reload, stays.
    expect(mergeFleets([one, view("t")], [[two]])).toEqual([merged, view("t")])
  })

  it("an event of one process is merged with the others' last state", () => {
    const views = new FleetViews<string>()
    views.note("w1", view("s", { in_flight: 1, models: [modelView("a", { in_flight: 1 }), modelView("b")] }))
    const told = views.note("w2", view("s", { in_flight: 2, models: [modelView("a", { in_flight: 2 })] }))
    expect([told.in_flight, told.models]).toEqual([3, [modelView("a", { in_flight: 3 })]])
    // Said again, it does not count twice.
    expect(views.note("w2", view("s", { in_flight: 1, models: [modelView("a", { in_flight: 1 })] })).in_flight).toBe(2)
    const [left] = views.forget("w1")
    expect([left?.in_flight, left?.models[0]?.in_flight]).toEqual([1, 1])
    expect(views.forget("w1")).toEqual([])
  })
})

/** The address at which `aicortex serve --workers 2` listens. */
const listening = (child: ChildProcess): Promise<string> =>
  new Promise((resolve, reject) => {
    let said = ""
    const take = (piece: unknown) => {
      said += String(piece)
      const url = /listening on (http:\/\/[\w.]+:\d+)/.exec(said)?.[1]
      if (url !== undefined) resolve(url)
    }
    child.stdout?.on("data", take)
    child.stderr?.on("data", take)
    child.once("exit", (code) => reject(new Error(`it ended with ${code}: ${said}`)))
  })

describe("requests of other gateways", () => {
  // Each of two processes counts the other's requests as elsewhere, beside the 4 of another gateway.
  const one = view("s", { in_flight: 2, in_flight_elsewhere: 4 + 3 })
  const two = view("s", { in_flight: 3, in_flight_elsewhere: 4 + 2 })

  it("are counted once, and requests of the other processes are not among them", () => {
    for (const merged of [mergeServers([one, two]), mergeServers([two, one])])
      expect([merged.in_flight, merged.in_flight_elsewhere]).toEqual([5, 4])
    expect(mergeFleets([one], [[two]])[0]?.in_flight_elsewhere).toBe(4)
    expect(mergeFleets([one], [])[0]?.in_flight_elsewhere).toBe(7)
  })

  it("are never negative, also before a process has received another's report", () => {
    expect(mergeServers([view("s"), two]).in_flight_elsewhere).toBe(0)
  })

  it("are in the events of one process too", () => {
    const views = new FleetViews<string>()
    views.note("w1", one)
    expect(views.note("w2", two)).toMatchObject({ in_flight: 5, in_flight_elsewhere: 4 })
  })
})

describe("aicortex serve --workers 2", () => {
  it("lists and cancels the requests of all workers, whichever answers", async () => {
    const slow = { models: [model], reply: "word ".repeat(5_000), perToken: 20 }
    const servers = [keep(await startFakeOllama({ loaded: [model], ...slow })), keep(await startFakeOpenAI(slow))]
    const home = keep(makeHome({ servers: servers.map(({ url }) => ({ url, maxInFlight: 50 })) }))
    const child = home.start(["serve", "--port", "0", "--workers", "2", "--no-local"])
    const ended = new Promise((resolve) => child.once("exit", resolve))
    keep({
      [Symbol.asyncDispose]: async () => {
        child.kill("SIGTERM")
        await ended
      }
    })
    const url = await listening(child)
    // A connection of its own each time: the workers take turns.
    const get = (path: string, init: RequestInit = {}) =>
      fetch(`${url}${path}`, { ...init, headers: { connection: "close", ...init.headers } })
    // biome-ignore lint/suspicious/noExplicitAny: answers are read freely.
    const json = async (path: string, init?: RequestInit): Promise<any> => (await get(path, init)).json()
    const stream = keep(await watchEvents(get))
    const total = 8
    const body = JSON.stringify({ model, messages: [{ role: "user", content: "Hi" }], stream: true })
    const answers = Array.from({ length: total }, () =>
      get("/v1/chat/completions", { method: "POST", headers: { "content-type": "application/json" }, body })
        .then((response) => response.text())
        .catch(() => "broken off")
    )
    await eventually(() => servers.reduce((sum, { chatRequests }) => sum + chatRequests.length, 0) === total, "all run")
    const seen = await Promise.all([1, 2, 3, 4].map(async () => [await json("/fleet"), await json("/requests")]))
    const processes = new Set(seen.map(([fleet]) => fleet.process))
    expect(processes.size).toBe(2)
    for (const [fleet, requests] of seen) {
      expect([fleet.processes, fleet.in_flight, requests.running.length]).toEqual([2, total, total])
      expect(fleet.servers.map(({ places }: { places: number }) => places)).toEqual([50, 50])
      // There is no other gateway.
      const elsewhere = fleet.servers.map((server: { in_flight_elsewhere: number }) => server.in_flight_elsewhere)
      expect(elsewhere).toEqual([0, 0])
    }
    // They are in both of the workers, as their ids say.
    const ids: ReadonlyArray<string> = seen[0]?.[1].running.map(({ id }: { id: string }) => id)
    expect(new Set(ids.map((id) => id.split("-")[0])).size).toBe(2)
    // All of them may be on one server.
    const busy = ["server-1", "server-2"].filter((_, at) => servers[at]?.chatRequests.length !== 0)
    for (const name of busy) {
      await stream.next(
        ({ data, type }) => type === "fleet" && data.server === name && data.in_flight > 0,
        "it is busy"
      )
    }
    for (const id of ids) expect(await json(`/requests/${id}`, { method: "DELETE" })).toEqual({ cancelled: id })
    for (const text of await Promise.all(answers)) expect(text).not.toContain("[DONE]")
    await eventually(async () => (await json("/fleet")).in_flight === 0, "none is left")
    expect((await json("/requests")).recent).toHaveLength(total)
    expect((await get("/requests/none", { method: "DELETE" })).status).toBe(404)
    // The last event of each server has none in flight of either worker.
    for (const name of busy) {
      await eventually(
        () =>
          stream.events.findLast(({ data, type }) => type === "fleet" && data.server === name)?.data.in_flight === 0,
        "its last event says that it is idle"
      )
    }
    const most = Math.max(...stream.events.map(({ data, type }) => (type === "fleet" ? data.in_flight : 0)))
    expect(most).toBeGreaterThan(2)
    // What one worker does to a server, all do.
    const act = (action: string) =>
      get("/servers/server-1", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ action })
      })
    const states = () => Promise.all([1, 2, 3, 4, 5, 6].map(async () => (await json("/servers")).servers[0]))
    await act("drain")
    await eventually(async () => (await states()).every(({ draining }) => draining), "all drain it")
    await act("wake")
    await eventually(async () => !(await states()).some(({ draining }) => draining), "all have woken it")
    await act("rest")
    await eventually(async () => (await states()).every(({ state }) => state === "open"), "it rests for all")
  })
})
