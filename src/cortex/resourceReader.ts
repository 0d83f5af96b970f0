/** Reads this machine: processors, memory, load and GPUs. */
import { existsSync } from "node:fs"
import { readFile } from "node:fs/promises"
import { createRequire } from "node:module"
import { availableParallelism, cpus, loadavg, totalmem } from "node:os"
import { Worker } from "node:worker_threads"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type SystemInformation from "systeminformation"
import { type Reading, ResourceSource } from "../Conditions.js"
import { LimitedCpu } from "./cpuLimit.js"
import { CpuUse } from "./cpuUse.js"
import { limitedMemoryUse } from "./memoryLimit.js"

/** The package stands beside a bundle: it cannot be a part of one. */
const here = () => createRequire(import.meta.url)

/** GPUs are asked by programs that take a while, so only every so often, in milliseconds. */
const gpuInterval = 30_000

/** A reading that takes longer, in milliseconds, is given up, and its thread with it. */
const timeout = 20_000

/**
 * Where the package runs other programs, it waits for them, which would hold up all answers of this process: it has a
 * thread of its own. The thread is given the package's path, because one that is made of text has no place to look
 * from.
 */
const thread = `
const { parentPort, workerData } = require("node:worker_threads")
const si = require(workerData)
parentPort.on("message", async ({ gpu, machine }) => {
  const known = (promise) => promise.catch(() => undefined)
  const [load, memory, graphics] = [
    machine ? await known(si.currentLoad()) : undefined,
    machine ? await known(si.mem()) : undefined,
    gpu ? await known(si.graphics()) : undefined
  ]
  // One that could not be asked may be asked another time.
  const gpus = graphics?.controllers.map((one) => one.utilizationGpu).filter((use) => typeof use === "number")
  parentPort.postMessage({ cpu: load?.currentLoad, active: memory?.active, total: memory?.total, gpus })
})
`

interface Machine {
  readonly cpu: number | undefined
  readonly active: number | undefined
  readonly total: number | undefined
}

interface Answer extends Machine {
  readonly gpus: ReadonlyArray<number> | undefined
}

/** On Linux only NVIDIA's driver reports how busy a GPU is; on other systems one query shows whether it is known. */
const mayHaveGpu = (): boolean =>
  process.platform !== "linux" || existsSync("/proc/driver/nvidia/version") || existsSync("/dev/dxg")

const percent = (value: number | undefined): number | undefined =>
  value === undefined || !Number.isFinite(value) ? undefined : Math.min(100, Math.max(0, value))

/** The higher one of those that are known. */
const higher = (a: number | undefined, b: number | undefined): number | undefined =>
  a === undefined || b === undefined ? (a ?? b) : Math.max(a, b)

const read = (path: string) => readFile(path, "utf8").catch(() => undefined)

/** Reads in a thread that is started when it is first needed; where reading files is enough, it never is. */
export class ResourceReader {
  private worker: Worker | undefined
  private hasGpu: boolean | undefined
  private gpu: number | undefined
  private gpuAt = Number.NEGATIVE_INFINITY
  private readonly cpuUse = new CpuUse(read)
  private readonly limitedCpu = new LimitedCpu(read, cpus().length)

  async read(): Promise<Reading> {
    const now = performance.now()
    const isLinux = process.platform === "linux"
    this.hasGpu ??= mayHaveGpu()
    const asksGpu = this.hasGpu && now - this.gpuAt >= gpuInterval
    const answer = !isLinux || asksGpu ? await this.ask({ machine: !isLinux, gpu: asksGpu }) : undefined
    const { active, cpu, total } = isLinux || answer === undefined ? await this.readFiles() : answer
    const gpus = answer?.gpus
    if (asksGpu) {
      this.gpuAt = now
      this.hasGpu = gpus === undefined || gpus.length > 0
      this.gpu = percent(gpus === undefined || gpus.length === 0 ? undefined : Math.max(...gpus))
    }
    const whole = active === undefined || total === undefined ? undefined : percent((100 * active) / total)
    const memory = higher(isLinux ? await limitedMemoryUse(read, totalmem()) : undefined, whole)
    const limitedCpu = isLinux ? await this.limitedCpu.use(performance.now()) : undefined
    // Windows has no load average.
    const load = process.platform === "win32" ? undefined : (loadavg()[0] ?? 0) / availableParallelism()
    return { cpu: higher(limitedCpu, percent(cpu)), memory, load, gpu: this.gpu }
  }

  async close(): Promise<void> {
    const { worker } = this
    this.worker = undefined
    await worker?.terminate()
  }

  /** Processors and memory on Linux: no program is run for them, so no thread is needed. */
  private async readFiles(): Promise<Machine> {
    const { mem }: typeof SystemInformation = here()("systeminformation")
    const memory = await mem().catch(() => undefined)
    return { cpu: await this.cpuUse.use(), active: memory?.active, total: memory?.total }
  }

  private ask(what: { readonly machine: boolean; readonly gpu: boolean }): Promise<Answer> {
    this.worker ??= new Worker(thread, {
      eval: true,
      workerData: here().resolve("systeminformation"),
      stdout: true,
      stderr: true
    })
    const { worker } = this
    worker.ref()
    return new Promise((resolve, reject) => {
      const done = (use: () => void) => {
        clearTimeout(timer)
        worker.off("message", onMessage)
        worker.off("error", onError)
        worker.off("exit", onExit)
        worker.unref()
        use()
      }
      const failed = (error: unknown) => done(() => void this.close().finally(() => reject(error)))
      const onMessage = (answer: Answer) => done(() => resolve(answer))
      const onError = (error: unknown) => failed(error)
      const onExit = () => failed(new Error("the thread that reads this machine ended"))
      const timer = setTimeout(() => failed(new Error(`this machine was not read within ${timeout} ms`)), timeout)
      worker.on("message", onMessage)
      worker.on("error", onError)
      worker.on("exit", onExit)
      worker.postMessage(what)
    })
  }
}

/** This machine as it is read on Node. */
export const layer: Layer.Layer<ResourceSource> = Layer.scoped(
  ResourceSource,
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => new ResourceReader()),
      (reader) => Effect.promise(() => reader.close())
    ),
    (reader) => Effect.promise(() => reader.read())
  )
)
