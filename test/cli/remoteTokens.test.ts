import { spawn, spawnSync } from "node:child_process"
import { EventEmitter, once } from "node:events"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Effect, Exit, Scope } from "effect"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest"
import * as WorkerMessages from "../../src/cli/serve/workerMessages.js"
import * as Fleet from "../../src/Fleet.js"
import * as ReplicaGroup from "../../src/gateway/replicas/ReplicaGroup.js"
import { useFleet } from "../support/fleet.js"

const fleet = useFleet()
const root = fileURLToPath(new URL("../..", import.meta.url))
const folder = mkdtempSync(join(tmpdir(), "aicortex-remote-tokens-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe("on the command line", { timeout: 120_000 }, () => {
  beforeAll(() => {
    const built = spawnSync(process.execPath, [join(root, "scripts/setup.mjs")], { encoding: "utf8" })
    if (built.status !== 0) throw new Error(built.stderr)
  }, 240_000)

  const run = async (args: ReadonlyArray<string>, variables: Record<string, string> = {}) => {
    const { PATH = "" } = process.env
    const child = spawn(process.execPath, [join(root, "dist/bin.js"), ...args], {
      env: {
        PATH,
        HOME: folder,
        AICORTEX_CONFIG: join(folder, "config.json"),
        AICORTEX_STATE: join(folder, "state.json"),
        ...variables
      },
      stdio: ["ignore", "pipe", "pipe"]
    })
    let [stdout, stderr] = ["", ""]
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text
    })
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text
    })
    const [code] = await once(child, "close")
    return { stdout, stderr, code }
  }

  it("the count survives a run, is shown, and the error says when it resets", async () => {
    const far = await fleet.openai({
      models: ["a:1b"],
      reply: { tokens: "from afar", usage: { promptTokens: 70, completionTokens: 30 } }
    })
    const servers = [{ url: far.url, local: false }]
    writeFileSync(join(folder, "config.json"), JSON.stringify({ servers, conditions: { latency: 60 } }))
    const limited = { AICORTEX_REMOTE_TOKENS_PER_DAY: "100" }
    expect((await run(["chat", "Hi", "--no-stdin", "--model", "a:1b"], limited)).stdout).toContain("from afar")
    const shown = await run(["conditions"], limited)
    expect(shown.stdout).toMatch(
      /^Tokens of remote servers today: 100 \(ceiling 100, REACHED; counted until .*T00:00:00/m
    )
    const json = JSON.parse((await run(["conditions", "--json"])).stdout)
    expect(json.remoteTokens).toMatchObject({ used: 100, limit: null, resetsAt: expect.stringContaining("T00:00:00") })
    const failed = await run(["chat", "Hi", "--no-stdin", "--model", "a:1b"], limited)
    expect([failed.code, failed.stderr]).toEqual([1, expect.stringContaining("begins again at")])
    expect(far.chatRequests).toHaveLength(1)
    // Without a ceiling it is asked again (control).
    expect((await run(["chat", "Hi", "--no-stdin", "--model", "a:1b"])).stdout).toContain("from afar")
  })

  it.each(["0", "many", "1.5"])("serve refuses a limit of %s", async (text) => {
    const { code, stderr } = await run(["serve", "--remote-tokens-per-day", text])
    expect(code).not.toBe(0)
    expect(stderr).toContain("--remote-tokens-per-day")
  })
})

describe("workers of a gateway", () => {
  beforeEach(() => {
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it("know the others' counts within a second, and continue if the first process dies", async () => {
    const relay = WorkerMessages.makeRelay()
    const scope = Effect.runSync(Scope.make())
    const logs: Array<string> = []
    const start = () => {
      const [first, worker] = [new EventEmitter(), new EventEmitter()]
      let open = true
      const carry = (to: EventEmitter) => (message: unknown, sent: (error: Error | null) => void) => {
        const copy: unknown = structuredClone(message)
        if (open) queueMicrotask(() => to.emit("message", copy))
        sent(open ? null : new Error("the channel is closed"))
      }
      relay(Object.assign(first, { send: carry(worker), isConnected: () => open }))
      const remoteTokens = new Fleet.RemoteTokenCounter()
      const channel = WorkerMessages.make(Object.assign(worker, { send: carry(first) }))
      const made = ReplicaGroup.make(channel, remoteTokens, (text) => logs.push(text))
      Effect.runFork(Scope.extend(made, scope))
      const cut = () => {
        open = false
      }
      return { remoteTokens, cut }
    }
    const [one, two] = [start(), start()]
    one.remoteTokens.add(40, Date.now())
    two.remoteTokens.add(2, Date.now())
    const used = () => [one, two].map(({ remoteTokens }) => remoteTokens.used(Date.now()))
    expect(used()).toEqual([40, 2])
    await vi.advanceTimersByTimeAsync(2_000)
    expect(used()).toEqual([42, 42])
    // One that takes the place of another begins with what was counted.
    const three = start()
    await vi.advanceTimersByTimeAsync(1_000)
    expect(three.remoteTokens.used(Date.now())).toBe(42)
    one.cut()
    one.remoteTokens.add(1, Date.now())
    await vi.advanceTimersByTimeAsync(5_000)
    expect([used(), logs.length]).toEqual([[43, 42], 1])
    await Effect.runPromise(Scope.close(scope, Exit.void))
  })
})
