/** Workers, rounds, statistics and tables. */
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { Reply, Task } from "./child.js"

const childPath = fileURLToPath(new URL("./child.js", import.meta.url))

export type Measured = Reply & { readonly type: "measured" }

/** How long a child may think about one question, in milliseconds. */
const timeout = 60_000

/** A child process that answers one question at a time; one that never answers is ended. */
export interface Child {
  readonly next: () => Promise<Reply>
  readonly ask: (ask: Task) => Promise<Reply>
  readonly close: () => Promise<void>
}

export const startChild = (...args: ReadonlyArray<string>): Child => {
  // Its own output would spoil ours: what a client prints to stdout goes to stderr.
  const child: ChildProcess = fork(childPath, args, { stdio: ["ignore", 2, 2, "ipc"] })
  const next = () =>
    new Promise<Reply>((resolve) => {
      const timer = setTimeout(() => child.kill("SIGKILL"), timeout)
      const onMessage = (reply: Reply) => {
        clearTimeout(timer)
        child.off("exit", onExit)
        resolve(reply)
      }
      const onExit = (code: number | null, signal: string | null) => {
        clearTimeout(timer)
        child.off("message", onMessage)
        resolve({ type: "failed", message: `The process ended (${signal ?? code}).` })
      }
      child.once("message", onMessage)
      child.once("exit", onExit)
    })
  return {
    next,
    ask: (ask) => {
      if (!child.connected) return Promise.resolve({ type: "failed", message: "The process has ended." })
      const reply = next()
      child.send(ask)
      return reply
    },
    close: () =>
      new Promise((resolve) => {
        if (child.exitCode !== null || child.signalCode !== null) return resolve()
        child.once("exit", () => resolve())
        child.kill()
      })
  }
}

export const shuffle = <A>(values: ReadonlyArray<A>): ReadonlyArray<A> => {
  const out = [...values]
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1))
    const swap = out[i] as A
    out[i] = out[j] as A
    out[j] = swap
  }
  return out
}

export const median = (values: ReadonlyArray<number>): number => {
  if (values.length === 0) return Number.NaN
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2
}

export const mean = (values: ReadonlyArray<number>): number => values.reduce((a, b) => a + b, 0) / values.length

/** The middle and the ends of the ratios of two series, taken round by round. */
export interface Ratio {
  readonly median: number
  readonly min: number
  readonly max: number
}

export const ratio = (values: ReadonlyArray<number>, floor: ReadonlyArray<number>): Ratio | undefined => {
  const ratios = values.flatMap((value, index) => {
    const base = floor[index]
    return base === undefined || !(base > 0) ? [] : [value / base]
  })
  return ratios.length === 0
    ? undefined
    : { median: median(ratios), min: Math.min(...ratios), max: Math.max(...ratios) }
}

export const times = (value: number): string => `${value.toFixed(value < 10 ? 2 : 1)}x`

export const showRatio = (value: Ratio | undefined): string =>
  value === undefined ? "-" : `${times(value.median)} (${value.min.toFixed(2)}–${value.max.toFixed(2)})`

/** A table with its first column to the left and the others to the right. */
export const table = (header: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const all = [header, ...rows]
  const widths = header.map((_, column) => Math.max(...all.map((row) => [...(row[column] ?? "")].length)))
  const pad = (text: string, column: number) => {
    const space = " ".repeat((widths[column] ?? 0) - [...text].length)
    return column === 0 ? text + space : space + text
  }
  const line = (row: ReadonlyArray<string>) => row.map(pad).join("  ").trimEnd()
  return [line(header), widths.map((width) => "-".repeat(width)).join("  "), ...rows.map(line)].join("\n")
}
