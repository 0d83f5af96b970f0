/** Workers over a store: a client sees what it would see of one process. */
import { execFileSync } from "node:child_process"
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest"
import { build, makeHome } from "../support/cliProcess.js"
import { type Database, engines } from "../support/databases.js"
import { watchEvents } from "../support/eventStream.js"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { eventually } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

const model = "m:1b"
const keep = useKeep()
beforeAll(build, 120_000)

/** As many processes answer: one, or two workers. */
const counts = [1, 2] as const

for (const engine of engines) {
  describe(`workers over ${engine.name}`, () => {
    let database: Database
    beforeAll(async () => {
      database = await engine.start()
    })
    afterAll(() => database.close())

    const serve = async (server: FakeServer, workers: number, more: object = {}) => {
      const home = keep(
        makeHome({ servers: [{ url: server.url, maxInFlight: 64 }], store: await database.address(), ...more })
      )
      const child = home.start(["serve", "--port", "0", "--workers", String(workers), "--no-local"])
      const ended = new Promise((resolve) => child.once("exit", resolve))
      keep({
        [Symbol.asyncDispose]: async () => {
          child.kill("SIGTERM")
          await ended
        }
      })
      let said = ""
      for (const stream of [child.stdout, child.stderr]) {
        stream?.on("data", (piece) => {
          said += piece
        })
      }
      await eventually(() => {
        if (child.exitCode !== null) throw new Error(said)
        return said.includes("listening on")
      }, "it listens")
      const url = /listening on (\S+)/.exec(said)?.[1]
      // A connection of its own each time: the workers take turns.
      const get = (path: string, init: RequestInit = {}) =>
        fetch(`${url}${path}`, { ...init, headers: { connection: "close", ...init.headers } })
      const post = (path: string, body: object, init: RequestInit = {}) =>
        get(path, {
          method: "POST",
          body: JSON.stringify(body),
          ...init,
          headers: { "content-type": "application/json", ...init.headers }
        })
      // biome-ignore lint/suspicious/noExplicitAny: answers are read freely.
      const json = async (response: Promise<Response>): Promise<any> => (await response).json()
      const create = async () => String((await json(post("/v1/sessions", {}))).id)
      const turn = (session: string, content: string, body: object = {}, init: RequestInit = {}) =>
        post("/v1/chat/completions", { model, session, messages: [{ role: "user", content }], ...body }, init)
      const history = async (session: string): Promise<ReadonlyArray<string>> => {
        const { messages } = await json(get(`/v1/sessions/${session}`))
        return messages.map(({ content, role }: { content: string; role: string }) => `${role}: ${content}`)
      }
      return { child, get, post, json, create, turn, history, said: () => said }
    }
    type Gateway = Awaited<ReturnType<typeof serve>>
    /** Which process it was: the names that it gives to requests have a part of its own. */
    const processOf = (response: Response) => String(response.headers.get("x-request-id")).slice(4, 16)
    const whole = (said: ReadonlyArray<string>) =>
      said.every((one, i) => one.startsWith(i % 2 === 0 ? "user: " : "assistant: "))
    const upstream = async (options: Parameters<typeof startFakeOllama>[0] = {}, start = startFakeOllama) =>
      keep(await start({ models: [model], loaded: [model], reply: ({ messages }) => `${messages.length}`, ...options }))

    it.each([
      ["ollama", startFakeOllama],
      ["openai", startFakeOpenAI as typeof startFakeOllama]
    ] as const)(
      "take the turns of one conversation one after the other, and no client is refused (%s)",
      async (_, start) => {
        const server = await upstream({ perToken: 5 }, start)
        const { create, history, post, turn } = await serve(server, 2)
        const ids = [await create(), await create()]
        // A turn does not wait for one of another conversation.
        const leaving = new AbortController()
        await server.setBehaviour({ faults: { kind: "hang" } })
        const left = ids.map((id) => turn(id, "left", {}, { signal: leaving.signal }).catch(() => undefined))
        await eventually(() => server.inFlight() === 2, "a turn of each conversation is at the server")
        leaving.abort()
        await Promise.all(left)
        await eventually(() => server.inFlight() === 0, "they have left the server")
        await server.setBehaviour({ faults: undefined })
        const total = 24
        const responses = await Promise.all(
          ids.flatMap((id) =>
            Array.from({ length: total }, (_, i) =>
              i % 3 === 2
                ? post("/v1/messages", {
                    model,
                    max_tokens: 50,
                    messages: [{ role: "user", content: `q${i}` }],
                    metadata: { session_id: id }
                  })
                : turn(id, `q${i}`, { stream: i % 3 === 1 })
            )
          )
        )
        const texts = await Promise.all(responses.map((response) => response.text()))
        expect(responses.map(({ status }) => status)).toEqual(responses.map(() => 200))
        expect(new Set(responses.map(processOf)).size).toBe(2)
        for (const text of texts) expect(text).not.toContain("error")
        for (const id of ids) {
          const said = await history(id)
          expect(said).toHaveLength(2 * total)
          // Each turn began when the one before it was stored: it saw all of them.
          expect(said.filter((_, i) => i % 2 === 1)).toEqual(
            Array.from({ length: total }, (_, i) => `assistant: ${2 * i + 1}`)
          )
          expect(new Set(said.filter((one) => one.startsWith("user"))).size).toBe(total)
        }
      }
    )

    it("continue after a client disconnects, and after a worker is killed during its turn", async () => {
      const server = await upstream()
      const { child, create, get, history, json, said, turn } = await serve(server, 2)
      await server.setBehaviour({ faults: { kind: "hang" } })
      /** Those that have a turn and get no answer, each at another worker. */
      const leaving = new AbortController()
      const running = async () => (await json(get("/requests"))).running as ReadonlyArray<{ readonly id: string }>
      const ids: Array<string> = []
      const holders: Array<Promise<string>> = []
      while (new Set((await running()).map(({ id }) => id.split("-")[1]?.slice(0, 12))).size < 2) {
        ids.push(await create())
        const ended = turn(ids.at(-1) ?? "", "holds", {}, { signal: leaving.signal }).then(
          ({ status }) => String(status),
          () => "broken off"
        )
        holders.push(ended)
        await server.waitForChats(ids.length)
      }
      await server.setBehaviour({ faults: undefined })
      const waiting = ids.map((id) =>
        Array.from({ length: 8 }, (_, i) =>
          turn(id, `${i}`, { stream: i % 2 === 0 }).then(
            async (response) => {
              const text = await response.text()
              return response.status === 200 && !text.includes("error") ? "answered" : text
            },
            () => "broken off"
          )
        )
      )
      await eventually(async () => (await running()).length === 9 * ids.length, "all wait")
      const [pid = ""] = execFileSync("pgrep", ["-P", String(child.pid)], { encoding: "utf8" }).split("\n")
      process.kill(Number(pid), "SIGKILL")
      await eventually(() => said().includes("it is replaced"), "the first process has noticed its exit")
      // The turns of workers that exited pass to others; that of the running one is released when its client disconnects.
      await Promise.race(waiting.map((ended) => Promise.all(ended)))
      leaving.abort()
      const ends = await Promise.all(waiting.map((ended) => Promise.all(ended)))
      await Promise.all(holders)
      for (const [i, id] of ids.entries()) {
        const answered = ends[i]?.filter((end) => end === "answered").length ?? 0
        expect(ends[i]?.filter((end) => end !== "answered" && end !== "broken off")).toEqual([])
        // The turn is free.
        expect((await turn(id, "after")).status).toBe(200)
        const said = await history(id)
        expect(said.filter((_, i) => i % 2 === 1)).toEqual(
          Array.from({ length: said.length / 2 }, (_, i) => `assistant: ${2 * i + 1}`)
        )
        // A turn that was acknowledged is stored; one of those that were cut off may have been stored before its worker exited.
        expect(said.length / 2).toBeGreaterThanOrEqual(answered + 1)
        expect(said.length / 2).toBeLessThanOrEqual(answered + 2)
      }
    })

    it.each(counts)(
      "of %s: a conversation in use is not evicted, and does not expire during its turn",
      async (workers) => {
        const server = await upstream({ perToken: 20, reply: "word ".repeat(100) })
        const { create, history, turn } = await serve(server, workers, {
          sessions: { maxSessions: 2, ttl: 1 }
        })
        const id = await create()
        const stream = await turn(id, "long", { stream: true })
        await server.strike({ kind: "stall" })
        for (let i = 0; i < 4; i++) {
          await create()
          // Read at each of them, while its turn takes longer than the session's ttl.
          await history(id)
        }
        await new Promise((resolve) => setTimeout(resolve, 1_100))
        for (let i = 0; i < 4; i++) expect(await history(id)).toEqual([])
        for (let i = 0; i < 4; i++) await create()
        await server.strike(undefined)
        const text = await stream.text()
        expect(text).not.toContain("error")
        const said = await history(id)
        expect([said.length, whole(said)]).toEqual([2, true])
      }
    )

    it.each(counts)("of %s: deleting a conversation ends all waiting turns with the same error", async (workers) => {
      const server = await upstream({ perToken: 20, reply: "word ".repeat(100) })
      const gateway: Gateway = await serve(server, workers)
      const { create, get, json, turn } = gateway
      const id = await create()
      const stream = await turn(id, "first", { stream: true })
      await server.strike({ kind: "stall" })
      const waiting = Array.from({ length: 4 }, (_, i) => turn(id, `waits ${i}`).then(({ status }) => status))
      await eventually(async () => (await json(get("/requests"))).running.length === 5, "they wait")
      expect((await get(`/v1/sessions/${id}`, { method: "DELETE" })).status).toBe(200)
      await server.strike(undefined)
      const text = await stream.text()
      expect(await Promise.all(waiting)).toEqual([404, 404, 404, 404])
      expect(text).toContain("session_not_found")
      for (let i = 0; i < 3; i++) expect((await get(`/v1/sessions/${id}`)).status).toBe(404)
    })

    it("publish events as one sequence, wherever a client continues, without a gap or duplicates", async () => {
      const server = await upstream({ perToken: 2, reply: "word ".repeat(20) })
      const { get, turn, create } = await serve(server, 2)
      const ids = await Promise.all([create(), create(), create()])
      const constant = keep(await watchEvents(get))
      const requests = (events: typeof constant.events) => events.filter(({ type }) => type === "request")
      let running = true
      const load = Promise.all(
        ids.map(async (id) => {
          for (let i = 0; running; i++) await (await turn(id, `${i}`)).text()
        })
      )
      const pieces: Array<(typeof constant.events)[number]> = []
      const start = keep(await watchEvents(get))
      await start.next(({ type }) => type === "request", "a first one")
      await start.stop()
      pieces.push(...start.events)
      for (let i = 0; i < 12; i++) {
        const last: string = pieces.at(-1)?.id ?? ""
        const next = keep(await watchEvents(get, "", { "last-event-id": last }))
        await next.next(() => next.events.length > 4, "more")
        await next.stop()
        pieces.push(...next.events)
      }
      running = false
      await load
      const last = pieces.at(-1)?.id
      await constant.next(({ id }) => id === last, "the same")
      expect(pieces.filter(({ type }) => type === "gap")).toEqual([])
      const all = constant.events.map(({ id }) => id)
      const seen = pieces.map(({ id }) => id)
      const from = all.indexOf(seen[0] ?? "")
      expect(seen).toEqual(all.slice(from, from + seen.length))
      expect(requests(pieces).length).toBeGreaterThan(10)
    })
  })
}
