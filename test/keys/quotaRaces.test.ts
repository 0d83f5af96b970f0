/** Claims on a quota while what was used is being stored. */
import * as Effect from "effect/Effect"
import { describe, expect, it } from "vitest"
import type { Allowance } from "../../src/gateway/rateLimits.js"
import { Quotas } from "../../src/gateway/usage/quotas.js"
import type { UsageRecorder } from "../../src/gateway/usage/UsageRecorder.js"
import type * as Store from "../../src/Store.js"

const today = () => Math.floor(Date.now() / 86_400_000)
const none = Number.POSITIVE_INFINITY

/** The tables of quotas, where the next claim can be held up once it was computed. */
const start = () => {
  const counted = { stored: 0, unstored: 0 }
  let row: { version: number; state: string } | undefined
  let held: { readonly reached: () => void; readonly until: Promise<void> } | undefined
  const answer = async (words: string, args: ReadonlyArray<unknown>): Promise<ReadonlyArray<object>> => {
    if (words.includes("aicortex_key_tokens")) return [{ day: today(), tokens: counted.stored }]
    if (words.startsWith("SELECT")) return row === undefined ? [] : [{ ...row, now: Date.now() }]
    if (words.startsWith("INSERT")) {
      row ??= { version: 0, state: "{}" }
      return []
    }
    const [version, state] = args as [number, string]
    row = { version, state }
    const { reached, until } = held ?? {}
    held = undefined
    reached?.()
    await until
    return [{ version }]
  }
  const sql = (words: TemplateStringsArray, ...args: ReadonlyArray<unknown>) =>
    Effect.promise(() => answer(words[0] ?? "", args))
  const store = {
    use: (run: (sql: unknown, dialect: unknown) => unknown) => run(sql, { now: () => "now" })
  } as unknown as Store.Service
  const quotas = new Quotas(store, { unstored: () => counted.unstored } as unknown as UsageRecorder)
  /** Holds up the next claim; resolves once it is written, with what lets its answer through. */
  const hold = () =>
    new Promise<() => void>((resolve) => {
      let free = () => {}
      const until = new Promise<void>((done) => {
        free = done
      })
      held = { until, reached: () => resolve(free) }
    })
  return { counted, quotas, hold }
}

const key = (day: number): Allowance => ({
  name: "key",
  id: "key",
  requestsPerMinute: none,
  tokensPerMinute: none,
  concurrency: none,
  quota: { day }
})
const each = 20

describe("a claim on a quota", () => {
  /** Asks until it is refused; what was used is not stored meanwhile. */
  const useUp = async ({ counted, quotas }: ReturnType<typeof start>, access: Allowance) => {
    for (let i = 0; i < 200; i++) {
      if ((await quotas.acquire(access)) !== undefined) return
      let reserved = 0
      const refused = await quotas.reserve(
        access,
        { answers: 1, param: "n", prompt: each / 2, maxTokens: each / 2 },
        (tokens) => {
          reserved += tokens
        }
      )
      if (refused !== undefined) return
      counted.unstored += each
      quotas.release(access, reserved, 1, { prompt: each / 2, completion: each / 2 })
    }
  }

  it.each([0, 100, 300, 600])("does not grant %d tokens again that were stored during the claim", async (tokens) => {
    const world = start()
    const access = key(1_000)
    world.counted.stored = 1_000 - tokens - 100
    world.counted.unstored = tokens
    const written = world.hold()
    const asked = world.quotas.acquire(access)
    const free = await written
    world.counted.stored += tokens
    world.counted.unstored = 0
    free()
    expect(await asked).toBeUndefined()
    await useUp(world, access)
    const used = world.counted.stored + world.counted.unstored
    expect(used).toBeGreaterThan(1_000 - each)
    expect(used).toBeLessThan(1_000 + each)
  })

  it("ends the previous one as soon as it is computed", async () => {
    const world = start()
    const access = key(1_000)
    const reserve = (tokens: number) =>
      world.quotas.reserve(access, { answers: 1, param: "n", prompt: 0, maxTokens: tokens }, () => {})
    expect(await world.quotas.acquire(access)).toBeUndefined()
    expect(await reserve(600)).toBeUndefined()
    // It needed nothing of what was claimed for it.
    world.quotas.release(access, 600, 1, { prompt: 0, completion: 0 })
    const written = world.hold()
    const more = Promise.resolve(reserve(700))
    const free = await written
    // Most is claimed for the one before, so that this one waits for the next claim.
    let decided = false
    const other = Promise.resolve(reserve(290)).then((problem) => {
      decided = true
      return problem
    })
    await new Promise((resolve) => setImmediate(resolve))
    expect(decided).toBe(false)
    free()
    expect(await more).toBeUndefined()
    expect(await other).toBeUndefined()
    expect(await reserve(300)).toMatchObject({ status: 429, code: "quota_reserved" })
  })
})
