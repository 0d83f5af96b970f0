/**
 * `node-llama-cpp` tries its binary in another process before it loads it, which takes as long as all its imports. What
 * was tried here on this machine is not tried again, until anything about it has changed.
 *
 * The note of it is removed while the binary is loaded: where that ends the process, the next start tries it again. A
 * binary for a graphics card is always tried: its drivers change without it, and another one is taken where it fails.
 */
import type { ChildProcess, fork as forkFunction } from "node:child_process"
import { createHash } from "node:crypto"
import { EventEmitter } from "node:events"
import { readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { createRequire, syncBuiltinESMExports } from "node:module"
import { cpus, release } from "node:os"
import { dirname, join } from "node:path"
import { makeFolderSync } from "../../internal/makeFolderSync.js"
import { pathsOfUser } from "../../supervisor/layout.js"

/** The module that the library starts for it. */
const testModule = /[\\/]testBindingBinary\.js$/

/** The one object of the module whose functions can be replaced. */
const childProcess = createRequire(import.meta.url)("node:child_process") as { fork: typeof forkFunction }

interface Message {
  readonly type?: unknown
  readonly bindingBinaryPath?: unknown
  readonly gpu?: unknown
}

/** Everything that the outcome depends on; `undefined` for what is always tried. */
const fingerprint = ({ bindingBinaryPath, gpu }: Message): string | undefined => {
  if (gpu !== false || typeof bindingBinaryPath !== "string") return undefined
  try {
    const { ino, mtimeMs, size } = statSync(bindingBinaryPath)
    const file = [bindingBinaryPath, ino, mtimeMs, size]
    const machine = [process.version, process.arch, process.platform, release(), cpus()[0]?.model]
    return createHash("sha256")
      .update(JSON.stringify([file, machine]))
      .digest("hex")
  } catch {
    return undefined
  }
}

const noteFile = (): string => join(dirname(pathsOfUser().folder), "engine-binary")

const read = (): string | undefined => {
  try {
    return readFileSync(noteFile(), "utf8")
  } catch {
    return undefined
  }
}

/** Notes a binary, or that there is none; without it, it is tried at each start. */
const write = (print: string | undefined): boolean => {
  try {
    const file = noteFile()
    if (print === undefined) rmSync(file, { force: true })
    else {
      makeFolderSync(dirname(file), 0o700)
      writeFileSync(file, print, { mode: 0o600 })
    }
    return true
  } catch {
    return false
  }
}

/** Stands in for the process that tries the binary, and starts it where that is needed. */
class TestProcess extends EventEmitter {
  exitCode: number | null = null
  killed = false
  readonly stdout = null
  readonly stderr = null
  private real: ChildProcess | undefined
  private print: string | undefined

  constructor(
    private readonly start: () => ChildProcess,
    private readonly passed: (print: string) => void
  ) {
    super()
    setImmediate(() => this.emit("message", { type: "ready" }))
  }

  send(message: Message): boolean {
    if (this.real !== undefined) return this.real.send(message as object)
    if (message.type === "start") {
      this.print = fingerprint(message)
      // If the note cannot be removed, the next start could not see that this one failed.
      if (this.print === undefined || this.print !== read() || !write(undefined)) {
        this.begin(message)
        return true
      }
    }
    const answer = message.type === "start" ? "loaded" : "done"
    setImmediate(() => {
      if (message.type === "exit") this.end(0)
      else this.emit("message", { type: answer })
    })
    return true
  }

  kill(signal?: NodeJS.Signals | number): boolean {
    this.killed = true
    return this.real?.kill(signal) ?? true
  }

  private begin(message: Message): void {
    const real = this.start()
    this.real = real
    real.on("message", (told: Message) => {
      if (told.type === "ready") real.send(message as object)
      else this.emit("message", told)
    })
    real.once("exit", (code) => this.end(code))
    real.on("error", (error) => this.emit("error", error))
  }

  private end(code: number | null): void {
    this.exitCode = code
    if (code === 0 && this.print !== undefined) this.passed(this.print)
    this.emit("exit", code)
  }
}

/** Begins the test; returns a function that ends it with whether the library has started. */
export const testOnce = (): ((started: boolean) => void) => {
  const { fork } = childProcess
  let print: string | undefined
  const forkOnce = (module: string, ...others: ReadonlyArray<never>): ChildProcess => {
    const start = () => Reflect.apply(fork, childProcess, [module, ...others]) as ChildProcess
    if (!testModule.test(module)) return start()
    const stand = new TestProcess(start, (passed) => {
      print = passed
    })
    return stand as EventEmitter as ChildProcess
  }
  // The library imports it by its name.
  childProcess.fork = forkOnce as typeof fork
  syncBuiltinESMExports()
  return (started) => {
    childProcess.fork = fork
    syncBuiltinESMExports()
    if (started && print !== undefined) write(print)
  }
}
