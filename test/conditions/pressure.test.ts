import { type ChildProcess, spawn } from "node:child_process"
import { readFile } from "node:fs/promises"
import { setTimeout as sleep } from "node:timers/promises"
import { Effect, Fiber, Layer, ManagedRuntime, Stream } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { limitedMemoryUse } from "../../src/cortex/memoryLimit.js"
import { Chat, Conditions, Cortex } from "../../src/index.js"
import { useDemoServers } from "../support/demoProcess.js"
import { useFleet } from "../support/fleet.js"
import { startLineProxy } from "../support/lineProxy.js"

const fleet = useFleet()
let demo: Awaited<ReturnType<typeof useDemoServers>>
beforeAll(async () => {
  demo = await useDemoServers()
})
afterAll(() => demo.close())

const megabyte = 1024 * 1024
/** What the child takes, at most. */
const taken = 96 * megabyte

/** A process that keeps a processor busy or takes memory when it is told to. It ends with its input, or by itself. */
const program = `
let held, busy = false
const burn = () => {
  if (!busy) return
  const end = Date.now() + 20
  while (Date.now() < end);
  setImmediate(burn)
}
process.stdin.on("data", (text) => {
  for (const word of text.toString().trim().split("\\n")) {
    if (word === "cpu") { busy = true; burn() }
    else if (word === "memory") held = Buffer.alloc(${taken}, 1)
    else { busy = false; held = undefined; global.gc() }
  }
})
process.stdin.on("end", () => process.exit())
setTimeout(() => process.exit(), 240000)
process.stdout.write("ready")
`

/** A child under pressure, which is read as if it were the machine: others who use this one do not matter. */
const startChild = async () => {
  const child: ChildProcess = spawn(process.execPath, ["--expose-gc", "-e", program], {
    stdio: ["pipe", "pipe", "inherit"]
  })
  await new Promise((resolve) => child.stdout?.once("data", resolve))
  const stat = async () => {
    const text = await readFile(`/proc/${child.pid}/stat`, "utf8")
    const fields = text.replace(/^.*\) /s, "").split(" ")
    // User and system time in ticks of 10 ms; resident pages.
    return { cpu: (Number(fields[11]) + Number(fields[12])) * 10, bytes: Number(fields[21]) * 4_096 }
  }
  const limit = (await stat()).bytes + taken * 1.03
  let before = { cpu: (await stat()).cpu, at: performance.now() }
  const source = Effect.promise(async (): Promise<Conditions.Reading> => {
    const { bytes, cpu } = await stat()
    const at = performance.now()
    const share = (100 * (cpu - before.cpu)) / Math.max(1, at - before.at)
    before = { cpu, at }
    const files: Record<string, string> = {
      "/proc/self/cgroup": "0::/child\n",
      "/sys/fs/cgroup/child/memory.max": `${Math.round(limit)}`,
      "/sys/fs/cgroup/child/memory.current": `${bytes}`,
      "/sys/fs/cgroup/child/memory.stat": "inactive_file 0\n"
    }
    const memory = await limitedMemoryUse(async (path) => files[path], Number.POSITIVE_INFINITY)
    return { cpu: share, memory, load: undefined, gpu: undefined }
  })
  return {
    source,
    tell: (word: "cpu" | "memory" | "nothing") => child.stdin?.write(`${word}\n`),
    [Symbol.asyncDispose]: async () => {
      const gone = new Promise((resolve) => child.once("exit", resolve))
      child.kill("SIGKILL")
      await gone
    }
  }
}

interface Answered {
  readonly server: string
  readonly text: string
  readonly began: number
}

describe.skipIf(process.platform !== "linux")("auto between a local and a remote server", () => {
  it("switches over and back with real load and a real connection, at most once per window, and no call fails", {
    timeout: 300_000
  }, async () => {
    const window = 1_000
    const [near, far] = [fleet.keep(await demo.start()), fleet.keep(await demo.start())]
    const line = fleet.keep(await startLineProxy(far.url))
    const child = fleet.keep(await startChild())
    const conditions = Layer.provide(Conditions.layer, Layer.succeed(Conditions.ResourceSource, child.source))
    const layer = Cortex.layer(
      {
        configFile: false,
        servers: [
          { url: near.url, protocol: "openai" },
          { url: line.url, protocol: "openai", local: false }
        ],
        auto: { prefer: "local" },
        // An idle child uses nothing, and a busy one gets more than this of a processor, however busy the machine is.
        conditions: { cpu: 3, cpuCritical: 4, interval: 1_000, window, latency: 1_000 }
      },
      // What it needs is there when it is built.
      { conditions: conditions as unknown as Layer.Layer<Conditions.Conditions> }
    )
    const runtime = ManagedRuntime.make(layer)
    const seen: Array<Conditions.Snapshot> = []
    const waiting = new Set<() => void>()
    const watching = runtime.runFork(
      Stream.runForEach(Conditions.changes, (snapshot) =>
        Effect.sync(() => {
          seen.push(snapshot)
          for (const look of waiting) look()
        })
      )
    )
    const until = (test: (snapshot: Conditions.Snapshot) => boolean): Promise<void> =>
      new Promise((resolve) => {
        const look = () => {
          const last = seen.at(-1)
          if (last === undefined || !test(last)) return
          waiting.delete(look)
          resolve()
        }
        waiting.add(look)
        look()
      })
    const machineIs = (state: Conditions.ResourceState) => until(({ resources }) => resources?.state === state)
    const lineIs = (...states: ReadonlyArray<Conditions.LineState>) =>
      until(({ lines }) => lines.length === 1 && states.some((state) => state === lines[0]?.state))

    const answers: Array<Answered> = []
    const failures: Array<unknown> = []
    let calling = true
    let answered = () => {}
    const calls = (async () => {
      for (let n = 0; calling; n++) {
        const began = performance.now()
        const options = { model: "auto", maxTokens: 6, seed: n }
        const whole = Chat.complete(`Tell ${n}`, options)
        const stream = Stream.runFold(Chat.stream(`Tell ${n}`, options), { server: "", text: "" }, (sum, event) =>
          event.type === "token"
            ? { ...sum, text: sum.text + event.content }
            : event.type === "restart"
              ? { ...sum, text: "" }
              : event.type === "end"
                ? { ...sum, server: event.server }
                : sum
        )
        try {
          const { server, text } = await runtime.runPromise(n % 2 === 0 ? whole : stream)
          answers.push({ server, text, began })
        } catch (error) {
          failures.push(error)
        }
        answered()
        // So that others may use the machine, too.
        await sleep(50)
      }
    })()
    /** Where the next calls that begin from now on are answered. */
    const next = (count: number): Promise<ReadonlySet<string>> => {
      const from = performance.now()
      return new Promise((resolve) => {
        answered = () => {
          const later = answers.filter(({ began }) => began >= from)
          if (later.length >= count || failures.length > 0) resolve(new Set(later.map(({ server }) => server)))
        }
      })
    }
    const [here, there] = [new Set([near.url]), new Set([line.url])]

    try {
      await Promise.all([machineIs("AVAILABLE"), lineIs("OPTIMAL")])
      const places = [await next(3)]
      for (const pressure of ["memory", "cpu"] as const) {
        child.tell(pressure)
        await machineIs("CRITICAL")
        places.push(await next(3))
        if (pressure === "memory") {
          child.tell("nothing")
          await machineIs("AVAILABLE")
          places.push(await next(3))
        }
      }
      expect([places, failures]).toEqual([[here, there, here, there], []])

      line.set({ delay: 2_000 })
      await lineIs("DEGRADED")
      expect([await next(3), failures]).toEqual([here, []])
      line.set({})
      await lineIs("OPTIMAL")
      expect([await next(3), failures]).toEqual([there, []])
      line.set({ drops: true })
      expect(line.cut()).toBeGreaterThan(0)
      await lineIs("DEGRADED", "DISCONNECTED")
      expect([await next(3), failures]).toEqual([here, []])
      child.tell("nothing")
      await machineIs("AVAILABLE")
      expect([await next(3), failures]).toEqual([here, []])
    } finally {
      calling = false
      await calls
      await Effect.runPromise(Fiber.interrupt(watching))
      await runtime.dispose()
    }

    expect(failures).toEqual([])
    for (const { text } of answers) expect(text).not.toBe("")
    // Each state is kept for a window.
    for (const stateOf of [
      ({ resources }: Conditions.Snapshot) => resources,
      ({ lines }: Conditions.Snapshot) => lines[0]
    ]) {
      const known = seen.flatMap((snapshot) => stateOf(snapshot) ?? [])
      const changes = known.filter(({ state }, i) => i > 0 && state !== known[i - 1]?.state).map(({ at }) => at)
      expect(changes.length).toBeGreaterThanOrEqual(3)
      for (const [i, at] of changes.entries())
        if (i > 0) expect(at - (changes[i - 1] ?? 0)).toBeGreaterThanOrEqual(window)
    }
  })
})
