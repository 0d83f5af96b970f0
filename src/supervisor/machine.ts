/** What this machine has for models: its processors, memory, room on the disk and graphics cards, and the engines. */
import { statfs } from "node:fs/promises"
import { arch, cpus, freemem, platform, release, totalmem } from "node:os"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as EngineSystem from "../cortex/engineSystem.js"
import * as Engines from "../Engines.js"
import type { Hardware } from "../LocalModels.js"
import { graphics } from "./graphics.js"

/** The first folder of a path that there is. */
const roomAt = async (path: string): Promise<{ readonly total: number; readonly available: number } | null> => {
  for (let at = path; ; ) {
    try {
      const { bavail, blocks, bsize } = await statfs(at)
      return { total: blocks * bsize, available: bavail * bsize }
    } catch {
      const above = at.replace(/[\\/][^\\/]*$/, "")
      if (above === at || above === "") return null
      at = above
    }
  }
}

/** `folder` is where models are kept. */
export const hardware = (folder: string | undefined): Effect.Effect<Hardware> =>
  Effect.zipWith(
    Effect.promise(async () => (folder === undefined ? null : await roomAt(folder))),
    graphics,
    (storage, gpus) => {
      const processors = cpus()
      return {
        cpu: { arch: arch(), cores: processors.length, model: processors[0]?.model.trim() ?? null },
        os: { name: platform(), version: release() },
        ram: { total: totalmem(), available: process.availableMemory?.() ?? freemem() },
        storage,
        gpus
      }
    },
    { concurrent: true }
  )

/** Every engine, and whether it is installed. */
export const engines: Effect.Effect<ReadonlyArray<Engines.Status>> = Effect.flatMap(
  Engines.Engines,
  ({ list }) => list
).pipe(Effect.provide(Layer.provide(Engines.layer, EngineSystem.layer)))
