/** Many servers at once: each is listed, none holds up the others, and the work is bounded. */
import { createServer, type Server as TcpServer } from "node:net"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { describe, expect, it, vi } from "vitest"
import * as Cortex from "../../src/Cortex.js"
import * as Registry from "../../src/Registry.js"
import { useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"
import { unusedPort } from "../support/ports.js"

vi.setConfig({ testTimeout: 120_000 })

const fleet = useFleet()

/** How a fake answers a path: a body, nothing until `release`, or a body of so many bytes. */
type Reply = string | "hang" | { readonly bytes: number }

interface Many extends AsyncDisposable {
  readonly urls: ReadonlyArray<string>
  /** The most requests that were unanswered at the same time. */
  readonly mostInFlight: () => number
  readonly requests: ReadonlyArray<string>
  /** Bytes of bodies that were taken. */
  readonly written: () => number
  /** From now on server number `i` answers so. */
  readonly set: (i: number, reply: Reply) => void
  /** Answers all requests that hang, and those after them. */
  readonly release: () => void
}

const tags = JSON.stringify({
  models: [{ name: "m:1b", model: "m:1b", size: 1, digest: "abc", details: { family: "llama" } }]
})
const list = JSON.stringify({ object: "list", data: [{ id: "m:1b", object: "model" }] })

/** Servers of the same kind, a port each, as light as they can be. */
const startMany = async (count: number, protocol: "ollama" | "openai", delay = 0): Promise<Many> => {
  const replies = new Map<number, Reply>()
  const requests: Array<string> = []
  const hanging = new Set<() => void>()
  let inFlight = 0
  let most = 0
  let written = 0
  const usual = (path: string): string | undefined =>
    protocol === "openai"
      ? path === "/v1/models"
        ? list
        : undefined
      : path === "/api/tags"
        ? tags
        : path === "/api/ps"
          ? '{"models":[]}'
          : undefined
  const servers: Array<TcpServer> = []
  const sockets = new Set<import("node:net").Socket>()
  for (let i = 0; i < count; i++) {
    const server = createServer((socket) => {
      let pending = ""
      sockets.add(socket)
      socket.on("error", () => {})
      socket.on("close", () => sockets.delete(socket))
      const answer = (path: string) => {
        const body = usual(path)
        socket.write(
          body === undefined
            ? "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
            : `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`
        )
      }
      const endless = (bytes: number) => {
        socket.write(
          `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${bytes}\r\n\r\n{"models":["`
        )
        const piece = Buffer.alloc(64 * 1024, "x")
        const more = () => {
          while (!socket.destroyed && written < bytes) {
            written += piece.length
            if (!socket.write(piece)) return void socket.once("drain", more)
          }
        }
        more()
      }
      socket.on("data", (data) => {
        pending += data.toString("latin1")
        for (let end = pending.indexOf("\r\n\r\n"); end >= 0; end = pending.indexOf("\r\n\r\n")) {
          const [, path = ""] = pending.split(" ", 2)
          pending = pending.slice(end + 4)
          requests.push(`${i} ${path}`)
          inFlight++
          most = Math.max(most, inFlight)
          const reply = replies.get(i)
          const done = () => {
            inFlight--
            answer(path)
          }
          if (reply === "hang") hanging.add(done)
          else if (typeof reply === "object") {
            inFlight--
            endless(reply.bytes)
          } else if (delay > 0) setTimeout(done, delay)
          else done()
        }
      })
    })
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    servers.push(server)
  }
  return fleet.keep({
    urls: servers.map((server) => `http://127.0.0.1:${(server.address() as { readonly port: number }).port}`),
    mostInFlight: () => most,
    requests,
    written: () => written,
    set: (i: number, reply: Reply) => void replies.set(i, reply),
    release: () => {
      for (const [i, reply] of replies) if (reply === "hang") replies.delete(i)
      for (const done of hanging) done()
      hanging.clear()
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
    }
  })
}

const refusedUrls = async (count: number): Promise<ReadonlyArray<string>> => {
  const ports = new Set<number>()
  while (ports.size < count) ports.add(await unusedPort())
  return [...ports].map((port) => `http://127.0.0.1:${port}`)
}

const mixed = (some: ReadonlyArray<string>, others: ReadonlyArray<string>) =>
  some.flatMap((url, i) => [url, others[i] ?? url])

describe.each(["ollama", "openai"] as const)("many servers (%s)", (protocol) => {
  it("are all listed in order, with the reasons of failures, at most 20 requests at a time", async () => {
    const many = await startMany(100, protocol, 5)
    const servers = mixed(many.urls, await refusedUrls(100))
    const statuses = await fleet.cortex(servers).listServers()
    expect(statuses.map(({ url }) => url)).toEqual(servers)
    for (const [i, { checkedAt, models, problem, protocol: spoken, reachable }] of statuses.entries()) {
      expect(checkedAt).toBeGreaterThan(0)
      if (i % 2 === 0)
        expect({ models, problem, reachable, spoken }).toEqual({
          models: ["m:1b"],
          problem: undefined,
          reachable: true,
          spoken: protocol
        })
      else
        expect({ models, problem, reachable }).toEqual({
          models: [],
          problem: "refused the connection",
          reachable: false
        })
    }
    expect(many.mostInFlight()).toBeLessThanOrEqual(20)
    expect(many.mostInFlight()).toBeGreaterThan(5)
  })

  it("are asked discoveryConcurrency at a time", async () => {
    const many = await startMany(30, protocol, 20)
    const statuses = await fleet.cortex(many.urls, { discoveryConcurrency: 3 }).listServers()
    expect(statuses.filter(({ reachable }) => reachable)).toHaveLength(30)
    expect(many.mostInFlight()).toBe(3)
  })

  it("appear as they answer: the slowest one is last, and delays none", async () => {
    const many = await startMany(40, protocol)
    many.set(7, "hang")
    const seen: Array<string> = []
    for await (const { url } of fleet.cortex(many.urls, { discoveryTimeout: 60_000 }).streamServers()) {
      seen.push(url)
      if (seen.length === 39) {
        expect(seen).not.toContain(many.urls[7])
        many.release()
      }
    }
    expect(seen.at(-1)).toBe(many.urls[7])
    expect(new Set(seen)).toEqual(new Set(many.urls))
  })

  it("the stream of a known fleet emits at once, without requests", async () => {
    const many = await startMany(5, protocol)
    const cortex = fleet.cortex(many.urls)
    await cortex.listServers()
    const before = many.requests.length
    const seen: Array<string> = []
    for await (const { url } of cortex.streamServers()) seen.push(url)
    expect(seen).toEqual(many.urls)
    expect(many.requests).toHaveLength(before)
  })

  it("the stream can be abandoned early, and the fleet is still closed", async () => {
    const many = await startMany(10, protocol)
    for (let i = 5; i < 10; i++) many.set(i, "hang")
    const cortex = fleet.cortex(many.urls)
    for await (const { reachable } of cortex.streamServers()) {
      expect(reachable).toBe(true)
      break
    }
    await cortex.close()
    await expect(cortex.streamServers()[Symbol.asyncIterator]().next()).rejects.toMatchObject({ _tag: "Closed" })
  })

  it("the Effect face has the same stream", async () => {
    const many = await startMany(10, protocol)
    const servers = mixed(many.urls, await refusedUrls(10))
    const statuses = await Effect.runPromise(
      Effect.flatMap(Registry.Registry, ({ serverStream }) => Stream.runCollect(serverStream)).pipe(
        Effect.provide(Cortex.layer({ servers, configFile: false }))
      )
    )
    const found = [...statuses]
    expect(found).toHaveLength(20)
    expect(
      found
        .filter(({ reachable }) => reachable)
        .map(({ url }) => url)
        .sort()
    ).toEqual([...many.urls].sort())
  })

  it("a list is cut off at 4 MiB, and the others are listed", async () => {
    const many = await startMany(4, protocol)
    many.set(2, { bytes: 1_000_000_000 })
    const statuses = await fleet.cortex(many.urls).listServers()
    expect(statuses.map(({ reachable }) => reachable)).toEqual([true, true, false, true])
    expect(statuses[2]?.problem).toMatch(/^sent more than 4 MiB when asked for its models/)
    // What the buffers of two sockets hold, and no more.
    expect(many.written()).toBeLessThan(40_000_000)
  })

  it("silent servers time out after discoveryTimeout, each in a worker, and the reason has the time", async () => {
    const many = await startMany(30, protocol)
    for (let i = 0; i < 25; i++) many.set(i, "hang")
    const statuses = await fleet.cortex(many.urls, { discoveryTimeout: 300, discoveryConcurrency: 5 }).listServers()
    expect(statuses.map(({ reachable }) => reachable)).toEqual([...Array(25).fill(false), ...Array(5).fill(true)])
    for (const { problem } of statuses.slice(0, 25))
      expect(problem).toBe("did not say within 0.3 s which models it has")
    expect(many.mostInFlight()).toBeGreaterThanOrEqual(5)
  })

  it("with half of 20 down, a listing uses known data, shows its age, and refreshes in the background", async () => {
    const many = await startMany(20, protocol)
    const cortex = fleet.cortex(many.urls, { discoveryTtl: 1, discoveryTimeout: 60_000 })
    const first = await cortex.listServers()
    for (let i = 0; i < 10; i++) many.set(i, "hang")
    await expect.poll(() => Date.now()).toBeGreaterThan((first[0]?.checkedAt ?? 0) + 1)
    const began = performance.now()
    const second = await cortex.listServers()
    // 50 ms are waited; the rest is for a busy machine. Each that is off would take 60 s.
    expect(performance.now() - began).toBeLessThan(5_000)
    expect(second.map(({ models }) => models)).toEqual(first.map(({ models }) => models))
    for (let i = 0; i < 10; i++) expect(second[i]?.checkedAt).toBe(first[i]?.checkedAt)
    // It was asked in the background, and its answer is seen without another request.
    many.release()
    await expect
      .poll(async () => (await cortex.listServers())[0]?.checkedAt, { timeout: 60_000 })
      .toBeGreaterThan(first[0]?.checkedAt ?? 0)
  })

  it("also for a gateway: its model lists and readiness do not wait for servers that are down", async () => {
    const many = await startMany(10, protocol)
    const cortex = { discoveryTtl: 1, discoveryTimeout: 60_000 }
    const gateway = fleet.keep(await startGateway(many.urls, {}, { cortex }))
    const lists = async () => {
      const { data } = (await (await gateway.get("/v1/models")).json()) as { data: ReadonlyArray<{ id: string }> }
      const { models } = (await (await gateway.get("/api/tags")).json()) as { models: ReadonlyArray<{ name: string }> }
      const ready = await (await gateway.get("/ready")).json()
      return [data.map(({ id }) => id), models.map(({ name }) => name), ready]
    }
    const first = await lists()
    for (let i = 0; i < 5; i++) many.set(i, "hang")
    const began = performance.now()
    expect(await lists()).toEqual(first)
    expect(performance.now() - began).toBeLessThan(20_000)
    many.release()
  })
})
