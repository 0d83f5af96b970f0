/** Shows download progress on standard error: bars on a terminal, else one line per step. */
import type { Fields } from "../../management/models.js"
import * as Output from "../output.js"
import * as Table from "../table.js"
import * as Units from "./units.js"

/** How often bars are drawn, in milliseconds. */
const interval = 100

const barWidth = 20

/** One download: the layers reported so far, and the current step. */
class Download {
  status = "waiting"
  /** The first report: bytes that were already present do not count towards the speed. */
  private first: { readonly at: number; readonly bytes: number } | undefined
  private readonly layers = new Map<string, { total: number; completed: number }>()

  constructor(readonly server: string) {}

  tell(line: Fields, now: number): void {
    const status = Units.textOf(line["status"])
    if (status !== undefined) this.status = status
    const total = Units.numberOf(line["total"])
    const digest = Units.textOf(line["digest"])
    if (total === undefined || digest === undefined) return
    this.layers.set(digest, { total, completed: Math.min(total, Units.numberOf(line["completed"]) ?? 0) })
    this.first ??= { at: now, bytes: this.bytes().completed }
  }

  bytes(): { readonly completed: number; readonly total: number } {
    let completed = 0
    let total = 0
    for (const layer of this.layers.values()) {
      completed += layer.completed
      total += layer.total
    }
    return { completed, total }
  }

  /** In bytes per second; `undefined` at the beginning. */
  speed(now: number): number | undefined {
    const { first } = this
    const bytes = this.bytes().completed - (first?.bytes ?? 0)
    return first === undefined || now - first.at < 1_000 || bytes <= 0 ? undefined : (1000 * bytes) / (now - first.at)
  }

  describe(): string {
    const { completed, total } = this.bytes()
    return total === 0
      ? this.status
      : `${Math.floor((100 * completed) / total)}% (${Units.bytes(completed)} of ${Units.bytes(total)})`
  }

  bar(now: number): string {
    const { completed, total } = this.bytes()
    if (total === 0) return this.status
    const filled = Math.floor((barWidth * completed) / total)
    const speed = this.speed(now)
    const left = speed === undefined || completed >= total ? "" : `  ${Units.seconds((total - completed) / speed)}`
    const rate = speed === undefined ? "" : `  ${Units.bytes(speed)}/s${left}`
    const percent = `${Math.floor((100 * completed) / total)}%`.padStart(4)
    const size = `${Units.bytes(completed)} of ${Units.bytes(total)}`
    // Steps after the download.
    const then = completed < total ? rate : `  ${this.status}`
    return `${percent} ${"█".repeat(filled)}${"░".repeat(barWidth - filled)}  ${size}${then}`
  }
}

/** The downloads of one command. */
export class Progress {
  private readonly downloads: ReadonlyArray<Download>
  private readonly terminal = Output.isTerminal(process.stderr)
  private drawn = 0
  private drawnAt = Number.NEGATIVE_INFINITY
  private timer: NodeJS.Timeout | undefined

  constructor(servers: ReadonlyArray<string>) {
    this.downloads = servers.map((server) => new Download(server))
  }

  private of(server: string): Download | undefined {
    return this.downloads.find((one) => one.server === server)
  }

  /** A line of a server's progress. */
  tell(server: string, line: Fields): void {
    const download = this.of(server)
    if (download === undefined) return
    const before = download.status
    const now = performance.now()
    download.tell(line, now)
    if (!this.terminal) {
      if (download.status !== before) {
        process.stderr.write(`aicortex: ${Output.withoutControls(`${server}: ${download.status}`)}\n`)
      }
    } else if (now - this.drawnAt >= interval) this.draw()
    else this.timer ??= setTimeout(() => this.draw(), interval)
  }

  /** The end of a download. */
  end(server: string, status: string): void {
    const download = this.of(server)
    if (download !== undefined) download.status = status
    if (this.terminal) this.draw()
  }

  /** Stops drawing. */
  close(): void {
    clearTimeout(this.timer)
  }

  /** Describes the progress of a download. */
  describe(server: string): string {
    return this.of(server)?.describe() ?? ""
  }

  private draw(): void {
    clearTimeout(this.timer)
    this.timer = undefined
    const now = performance.now()
    const { columns = 80 } = process.stderr
    const longest = Math.max(...this.downloads.map(({ server }) => server.length))
    const lines = this.downloads.map((one) =>
      Table.cut(Output.withoutControls(`${one.server.padEnd(longest)}  ${one.bar(now)}`), Math.max(1, columns - 1))
    )
    const up = this.drawn === 0 ? "" : `\u001b[${this.drawn}A`
    process.stderr.write(`${up}${lines.map((line) => `\r\u001b[K${line}\n`).join("")}`)
    this.drawn = lines.length
    this.drawnAt = now
  }
}
