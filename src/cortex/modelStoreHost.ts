/** What the store of models asks of this machine. */
import { createHash, randomUUID } from "node:crypto"
import { readFile, statfs } from "node:fs/promises"
import { hostname } from "node:os"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type Owner, StoreHost } from "../modelStore/host.js"

/** When a process was started, in ticks since the boot; `undefined` if the system does not report it. */
const startOf = async (pid: number): Promise<string | undefined> => {
  if (process.platform !== "linux") return undefined
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8")
    // The name of the program, in parentheses, may hold blanks.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]
  } catch {
    return undefined
  }
}

const runs = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM"
  }
}

const free = async (folder: string): Promise<number | undefined> => {
  try {
    const { bavail, bsize } = await statfs(folder)
    return bavail * bsize
  } catch {
    return undefined
  }
}

/** The machine that this process runs on. */
export const layer: Layer.Layer<StoreHost> = Layer.effect(
  StoreHost,
  Effect.promise(async () => {
    const self: Owner = {
      host: hostname() || randomUUID(),
      pid: process.pid,
      started: await startOf(process.pid)
    }
    return StoreHost.of({
      freeBytes: (folder) => Effect.promise(() => free(folder)),
      sha256: () => {
        const hash = createHash("sha256")
        return { update: (bytes) => void hash.update(bytes), digest: () => hash.digest("hex") }
      },
      self,
      isAlive: ({ host, pid, started }) =>
        host === self.host
          ? Effect.promise(async () => {
              if (!runs(pid)) return false
              const now = started === undefined ? undefined : await startOf(pid)
              return now === undefined || now === started
            })
          : Effect.succeed(undefined)
    })
  })
)
