/** Shows how far a download to this machine is: a bar on a terminal, a line every few seconds elsewhere. */
import type { PullEvent, PullProgress, PullResolved, PullWaiting } from "../../ModelStore.js"
import * as Output from "../output.js"
import * as Table from "../table.js"
import * as Units from "./units.js"

/** How often a line is written off a terminal, in milliseconds. */
const lineEvery = 5_000

/** The speed is that of the last so many milliseconds. */
const speedOver = 10_000

const barWidth = 20

/** What is shown of one download, on standard error. */
export class LocalProgress {
  private readonly terminal = Output.isTerminal(process.stderr)
  private readonly samples: Array<{ readonly at: number; readonly bytes: number }> = []
  private completed = 0
  private total: number | undefined
  private lineAt = Number.NEGATIVE_INFINITY
  private drawn = false
  private waiting = false

  constructor(private readonly name: string) {}

  /** An event of the download. */
  tell(event: PullEvent): void {
    switch (event.type) {
      case "done":
        this.clear()
        break
      case "retry":
        this.line(`${event.detail}${event.wait < 1000 ? "" : `, again in ${Units.seconds(event.wait / 1000)}`}`)
        break
      case "verifying": {
        const { completed, total = completed } = event
        this.show(`checking ${percent(completed, total)}`, completed === total)
        break
      }
      default:
        this.moved(event)
    }
  }

  private moved(event: PullWaiting | PullResolved | PullProgress): void {
    this.completed = event.completed
    this.total = event.total ?? this.total
    this.sample()
    if (event.type === "waiting") {
      const by = event.pid === 0 ? event.host : `process ${event.pid}`
      if (!this.waiting) this.line(`${by} downloads ${this.name} already: waiting for it`)
      this.waiting = true
    }
    if (event.type === "resolved") this.waiting = false
    this.show(this.bar(), event.type === "resolved")
  }

  /** How far it is, in words. */
  describe(): string {
    const { completed, total } = this
    return total === undefined
      ? Units.bytes(completed)
      : `${percent(completed, total)} (${Units.bytes(completed)} of ${Units.bytes(total)})`
  }

  /** Draws nothing more. */
  clear(): void {
    if (this.drawn) process.stderr.write("\r\u001b[K")
    this.drawn = false
  }

  private sample(): void {
    const now = performance.now()
    this.samples.push({ at: now, bytes: this.completed })
    while ((this.samples[1]?.at ?? now) < now - speedOver) this.samples.shift()
  }

  /** In bytes per second; `undefined` at the beginning. */
  private speed(): number | undefined {
    const first = this.samples[0]
    const last = this.samples.at(-1)
    if (first === undefined || last === undefined || last.at - first.at < 500) return undefined
    const bytes = last.bytes - first.bytes
    return bytes <= 0 ? undefined : (1000 * bytes) / (last.at - first.at)
  }

  private bar(): string {
    const { completed, total } = this
    const speed = this.speed()
    const rate = speed === undefined ? "" : `  ${Units.bytes(speed)}/s`
    if (total === undefined) return `${Units.bytes(completed)}${rate}`
    const filled = total === 0 ? barWidth : Math.floor((barWidth * completed) / total)
    const left = speed === undefined || completed >= total ? "" : `  ${Units.seconds((total - completed) / speed)} left`
    const blocks = this.terminal ? ` ${"█".repeat(filled)}${"░".repeat(barWidth - filled)}  ` : "  "
    return `${percent(completed, total).padStart(4)}${blocks}${Units.bytes(completed)} of ${Units.bytes(total)}${rate}${left}`
  }

  private line(text: string): void {
    this.clear()
    process.stderr.write(`aicortex: ${Output.withoutControls(text)}\n`)
  }

  private show(text: string, now: boolean): void {
    if (this.terminal) {
      const { columns = 80 } = process.stderr
      const line = Table.cut(Output.withoutControls(`${this.name}  ${text}`), Math.max(1, columns - 1))
      process.stderr.write(`\r\u001b[K${line}`)
      this.drawn = true
      return
    }
    const time = performance.now()
    if (!now && time - this.lineAt < lineEvery) return
    this.lineAt = time
    this.line(`${this.name}: ${text.trim()}`)
  }
}

const percent = (completed: number, total: number): string =>
  `${total === 0 ? 100 : Math.floor((100 * completed) / total)}%`
