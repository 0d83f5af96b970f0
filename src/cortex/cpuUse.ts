/**
 * How busy the processors of a Linux machine are, from `/proc/stat`: a read of a file, where a package would run
 * programs.
 */
import { setTimeout as sleep } from "node:timers/promises"
import type { ReadFile } from "./memoryLimit.js"

/** What all processors together have done since the machine was started, in ticks of the kernel. */
interface Ticks {
  readonly idle: number
  readonly all: number
}

/** How long the first reading looks, in milliseconds: there is none before it to compare with. */
const firstLook = 200

/** The counters of the first line: user, nice, system, idle, iowait, irq, softirq, steal; guests are part of user. */
const ticksIn = (stat: string | undefined): Ticks | undefined => {
  const line = /^cpu +(\d[\d ]*)$/m.exec(stat ?? "")?.[1]
  if (line === undefined) return undefined
  const counters = line.split(" ").slice(0, 8).map(Number)
  const [, , , idle = 0, waiting = 0] = counters
  return { idle: idle + waiting, all: counters.reduce((sum, one) => sum + one, 0) }
}

/** Follows the processor time of a machine. */
export class CpuUse {
  private before: Ticks | undefined

  constructor(private readonly read: ReadFile) {}

  private async ticks(): Promise<Ticks | undefined> {
    return ticksIn(await this.read("/proc/stat"))
  }

  /** How much of all processors was used since the last time, in percent; `undefined` if unknown. */
  async use(): Promise<number | undefined> {
    const since = this.before ?? (await this.ticks())
    if (since === undefined) return undefined
    if (this.before === undefined) await sleep(firstLook)
    const now = await this.ticks()
    this.before = now
    // Two readings within one tick say nothing.
    if (now === undefined || now.all <= since.all) return undefined
    return 100 * (1 - (now.idle - since.idle) / (now.all - since.all))
  }
}
