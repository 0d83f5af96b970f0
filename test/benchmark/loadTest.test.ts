/** The load generator as a Promise function: the same figures as the Effect, its progress, its refusals and its end. */
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { createCortex, InvalidRequest, type LoadProgress } from "../../src/promise.js"
import { type LoadedServer, startLoadedServer } from "../support/loadedServer.js"

let server: LoadedServer
const cortex = createCortex({ servers: [], configFile: false, stateFile: false })
const few = { model: "m", warmup: 0, cooldown: 0, promptTokens: 20, outputTokens: 8 }

beforeAll(async () => {
  server = await startLoadedServer(() => ({ first: 5, gap: 1, tokens: 8 }))
})
afterAll(async () => {
  await cortex.close()
  await server[Symbol.asyncDispose]()
})

describe("loadTest", () => {
  it.each([
    ["a closed loop", { concurrency: 3, requests: 9 }],
    ["an open loop", { rate: 200, requests: 9 }],
    ["one at a time", { profile: "synchronous", requests: 9 }]
  ] as const)("counts each request of %s, and reports progress until it is done", async (_, options) => {
    const told: Array<LoadProgress> = []
    const report = await cortex.loadTest({
      ...few,
      ...options,
      server: server.url,
      onProgress: (progress) => void told.push(progress)
    })
    expect(report).toMatchObject({ ended: "complete", requests: 9, server: server.url })
    expect(report.steps).toHaveLength(1)
    expect(report.steps[0]?.requests).toMatchObject({ sent: 9, succeeded: 9, failed: 0 })
    expect(told.filter(({ done }) => done)).toHaveLength(1)
    expect(told.at(-1)?.done).toBe(true)
    expect(told.at(-1)?.report().steps[0]?.requests).toEqual(report.steps[0]?.requests)
  })

  it("refuses invalid options before anything is sent", async () => {
    const before = server.bodies.length
    const wrong: ReadonlyArray<readonly [object, string]> = [
      [{ ...few, rate: 0, server: server.url }, "rate"],
      [{ ...few, server: server.url }, "profile"],
      [{ ...few, rate: 1, server: server.url, onProgress: 3 }, "onProgress"],
      [{ ...few, rate: 1, server: server.url, signal: 3 }, "signal"],
      [{ ...few, rate: 1, server: server.url, onEvent: () => {} }, "onEvent"],
      [{ rate: 1, server: server.url }, "model"],
      [{ ...few, rate: 1 }, "server"]
    ]
    for (const [options, field] of wrong) {
      const error = await cortex.loadTest(options as never).catch((error: unknown) => error)
      expect(error).toBeInstanceOf(InvalidRequest)
      expect(error).toMatchObject({ field })
    }
    expect(server.bodies.length).toBe(before)
  })

  it("ends when its signal aborts, with the measurements so far in its last progress", async () => {
    const stop = new AbortController()
    let last: LoadProgress | undefined
    const ended = cortex
      .loadTest({
        ...few,
        concurrency: 2,
        duration: "100 seconds",
        server: server.url,
        signal: stop.signal,
        onProgress: (progress) => {
          last = progress
          if (progress.ended >= 2) stop.abort("enough")
        }
      })
      .catch((error: unknown) => error)
    expect(await ended).toBe("enough")
    expect(last?.report().steps[0]?.requests.succeeded).toBeGreaterThanOrEqual(2)
  })
})
