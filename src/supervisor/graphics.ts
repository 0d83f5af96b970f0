/** The graphics cards of this machine. */
import { createRequire } from "node:module"
import { Worker } from "node:worker_threads"
import * as Effect from "effect/Effect"
import type { Hardware } from "../LocalModels.js"

type Gpu = Hardware["gpus"][number]

/** What the package knows of one, as far as it is used; amounts in MiB. Every part may be missing. */
export interface Controller {
  readonly vendor?: unknown
  readonly model?: unknown
  readonly name?: unknown
  readonly driverVersion?: unknown
  readonly vram?: unknown
  readonly memoryTotal?: unknown
  readonly memoryFree?: unknown
}

/** How long an answer holds, and how long the system may take for one, in milliseconds. */
const validity = 60_000
const timeout = 15_000

/**
 * The package runs other programs and waits for them, which would hold up all answers of this process: it has a thread
 * of its own, which ends with the answer. The thread is given the package's path, because one that is made of text has
 * no place to look from.
 */
const thread = `
const { parentPort, workerData } = require("node:worker_threads")
require(workerData).graphics().then(
  ({ controllers }) => parentPort.postMessage(controllers),
  () => parentPort.postMessage(undefined)
)
`

const mebibyte = 1024 * 1024

const text = (value: unknown): string | null => (typeof value === "string" && value.trim() !== "" ? value.trim() : null)

const bytes = (value: unknown): number | null =>
  typeof value === "number" && Number.isFinite(value) && value >= 0 ? Math.round(value * mebibyte) : null

/** One graphics card. Its memory is unknown if it shares the machine's. */
const toGpu = ({ driverVersion, memoryFree, memoryTotal, model, name, vendor, vram }: Controller, id: number): Gpu => ({
  id: String(id),
  name: text(name) ?? text(model),
  vendor: text(vendor),
  driver_version: text(driverVersion),
  total_vram: bytes(memoryTotal) ?? (vram === 0 ? null : bytes(vram)),
  free_vram: bytes(memoryFree)
})

/** Asks the system, by way of a package. `undefined`: it could not be asked. */
const askSystem = (): Promise<ReadonlyArray<Controller> | undefined> =>
  new Promise((resolve) => {
    let path: string
    try {
      path = createRequire(import.meta.url).resolve("systeminformation")
    } catch {
      resolve(undefined)
      return
    }
    const worker = new Worker(thread, { eval: true, workerData: path, stdout: true, stderr: true })
    const done = (answer: ReadonlyArray<Controller> | undefined): void => {
      clearTimeout(timer)
      resolve(answer)
      void worker.terminate()
    }
    const timer = setTimeout(() => done(undefined), timeout)
    // There is no need to wait for it to end.
    timer.unref()
    worker.unref()
    worker.once("message", (answer: ReadonlyArray<Controller> | undefined) => done(answer))
    worker.once("error", () => done(undefined))
    worker.once("exit", () => done(undefined))
  })

/** Those who ask at the same time share one question, and its answer holds for a minute. */
export const makeGraphics = (
  ask: () => Promise<ReadonlyArray<Controller> | undefined>,
  now: () => number = () => performance.now()
): Effect.Effect<ReadonlyArray<Gpu>> => {
  let known: { readonly gpus: Promise<ReadonlyArray<Gpu>>; readonly until: number } | undefined
  return Effect.promise(() => {
    if (known === undefined || now() >= known.until) {
      const gpus = ask().then(
        (controllers) => {
          // What could not be asked is asked the next time.
          if (controllers === undefined) known = undefined
          return (controllers ?? []).map(toGpu)
        },
        () => {
          known = undefined
          return []
        }
      )
      known = { gpus, until: now() + validity }
    }
    return known.gpus
  })
}

/** Nothing is asked before the first use. */
export const graphics: Effect.Effect<ReadonlyArray<Gpu>> = makeGraphics(askSystem)
