/**
 * An engine that is started before the process that will hold it can do anything else: loading a model takes longer
 * than all that this process has to load itself. The first caller that wants an engine with the same arguments gets it.
 */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process"

/** The variable with the arguments of its program, as JSON. Only this process reads it. */
export const earlyEngine = "AICORTEX_EARLY_ENGINE"

/** An engine that no caller takes within this time is ended, in milliseconds. */
const longest = 20_000

export const isWindows = process.platform === "win32"

/** A child leads a process group of its own, so that what it starts ends with it. */
export const startChild = (
  file: string,
  args: ReadonlyArray<string>,
  env: { readonly [name: string]: string }
): ChildProcessWithoutNullStreams =>
  spawn(file, args, {
    // The input stays open as long as this process lives: its end is how a child learns that this process is gone.
    stdio: ["pipe", "pipe", "pipe"],
    env: { ...process.env, ...env },
    detached: !isWindows,
    windowsHide: true
  })

/** Signals a child and all that it has started. */
export const signalGroup = ({ pid }: { readonly pid?: number | undefined }, signal: NodeJS.Signals): void => {
  if (pid === undefined) return
  try {
    process.kill(isWindows ? pid : -pid, signal)
  } catch {
    // It has ended already.
  }
}

interface Early {
  readonly args: string
  readonly child: ChildProcessWithoutNullStreams
}

let early: Early | undefined

/** Ends the engine if no caller took it. */
export const dropEarly = (): void => {
  if (early?.child.exitCode === null && early.child.signalCode === null) signalGroup(early.child, "SIGKILL")
  early = undefined
}

/** Ports differ, and the engine says which one it has. */
const comparable = (args: ReadonlyArray<string>): string => {
  const at = args.indexOf("--port")
  return JSON.stringify(at === -1 ? args : [...args.slice(0, at), ...args.slice(at + 2)])
}

/** Starts what the variable says, and removes it. */
export const beginEarly = (): void => {
  const text = process.env[earlyEngine]
  delete process.env[earlyEngine]
  if (text === undefined) return
  const args: unknown = JSON.parse(text)
  if (!Array.isArray(args) || !args.every((one) => typeof one === "string")) return
  const child = startChild(process.execPath, args, {})
  child.on("error", () => {})
  early = { args: comparable(args), child }
  process.once("exit", dropEarly)
  setTimeout(dropEarly, longest).unref()
}

/** The engine that was started with these arguments; one with others is of no use, and ended. */
export const takeEarly = (file: string, args: ReadonlyArray<string>): ChildProcessWithoutNullStreams | undefined => {
  if (early === undefined) return undefined
  const { child } = early
  const fits = file === process.execPath && comparable(args) === early.args && child.pid !== undefined
  if (!fits || child.exitCode !== null || child.signalCode !== null) {
    dropEarly()
    return undefined
  }
  early = undefined
  return child
}
