/** Child processes and free ports, on Node. */
import type { ChildProcess } from "node:child_process"
import { accessSync, constants, existsSync, statSync } from "node:fs"
import { createRequire } from "node:module"
import { type AddressInfo, createServer } from "node:net"
import { delimiter, join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import { type Child, System, type SystemService } from "../Engines.js"
import type { Command } from "../engines/engine.js"
import { isWindows, signalGroup, startChild, takeEarly } from "./earlyEngine.js"
import { guardScript } from "./engineGuard.js"
import { environment } from "./environment.js"

/** How many lines of a child are remembered, and how long each may be. */
const maxLines = 80
const maxLineLength = 2_000

/** How long a child may take to end after SIGTERM, in milliseconds. */
const gracePeriod = 5_000

/** How long what is run after it may take, in milliseconds. */
const cleanupTimeout = 20_000

// =============================================================================
// Programs
// =============================================================================

const isExecutable = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}

const find = (program: string): string | undefined => {
  const names = isWindows ? [`${program}.exe`, `${program}.cmd`, program] : [program]
  for (const folder of (environment("PATH") ?? "").split(delimiter)) {
    if (folder === "") continue
    const found = names.map((name) => join(folder, name)).find(isExecutable)
    if (found !== undefined) return found
  }
  return undefined
}

/** The command line of this package, from wherever this module was built into. */
export const commandLine = (): { readonly file: string; readonly args: ReadonlyArray<string> } | undefined => {
  const bin = ["../bin.js", "../../dist/bin.js"]
    .map((up) => fileURLToPath(new URL(up, import.meta.url)))
    .find((path) => existsSync(path))
  return bin === undefined ? undefined : { file: process.execPath, args: [bin] }
}

const hasPackage = (name: string): boolean => {
  try {
    const require = createRequire(import.meta.url)
    return (require.resolve.paths(name) ?? []).some((folder) => existsSync(join(folder, name, "package.json")))
  } catch {
    return false
  }
}

// =============================================================================
// Children
// =============================================================================

/** The last lines of a stream of bytes, and each line for a listener. */
class Lines {
  readonly last: Array<string> = []
  private open = ""

  constructor(private readonly line: ((text: string) => void) | undefined) {}

  add(text: string): void {
    const pieces = (this.open + text).split(/\r?\n/)
    this.open = (pieces.pop() ?? "").slice(0, maxLineLength)
    for (const piece of pieces) this.push(piece)
  }

  end(): void {
    if (this.open !== "") this.push(this.open)
    this.open = ""
  }

  private push(piece: string): void {
    const text = piece.slice(0, maxLineLength)
    this.last.push(text)
    if (this.last.length > maxLines) this.last.shift()
    this.line?.(text)
  }
}

/** The children, and how to end each at once, without waiting for it. */
const running = new Map<ChildProcess, NodeJS.Signals>()
let watchesExit = false

/** Where this process ends without closing its scopes, its children end too. A guard has something to clean up. */
const endAtExit = (child: ChildProcess, guarded: boolean): void => {
  running.set(child, guarded ? "SIGTERM" : "SIGKILL")
  if (watchesExit) return
  watchesExit = true
  process.on("exit", () => {
    for (const [one, signal] of running) signalGroup(one, signal)
  })
}

const toSpawn = ({ args, cleanup, file, guardsItself }: Command) =>
  guardsItself
    ? { file, args }
    : {
        file: process.execPath,
        args: ["-e", guardScript, JSON.stringify({ file, args, cleanup, cleanupTimeout, gracePeriod })]
      }

const launch = (command: Command, line: ((text: string) => void) | undefined) =>
  Effect.async<{ readonly process: ChildProcess; readonly child: Child }, { readonly reason: string }>((resume) => {
    const { args, file } = toSpawn(command)
    const lines = new Lines(line)
    const done = Deferred.unsafeMake<string>(FiberId.none)
    let end: string | undefined
    const early = takeEarly(file, args)
    const child = early ?? startChild(file, args, command.env)
    const ended = (how: string) => {
      if (end !== undefined) return
      end = how
      lines.end()
      running.delete(child)
      Deferred.unsafeDone(done, Effect.succeed(how))
    }
    child.stdin.on("error", () => {})
    for (const output of [child.stdout, child.stderr]) {
      output.setEncoding("utf8").on("data", (text: string) => lines.add(text))
      output.on("error", () => {})
    }
    child.once("error", (error) => {
      if (child.pid === undefined) resume(Effect.fail({ reason: `it cannot be started: ${error.message}` }))
    })
    // `close`, so that its last words are there; but what it started may hold its output open.
    child.once("exit", (code, signal) => {
      // Whatever it had started in its group ends with it.
      signalGroup(child, "SIGKILL")
      const how = signal === null ? `exit code ${code ?? 0}` : `signal ${signal}`
      const late = setTimeout(() => ended(how), 500)
      child.once("close", () => {
        clearTimeout(late)
        ended(how)
      })
    })
    const started = () => {
      endAtExit(child, !command.guardsItself)
      resume(
        Effect.succeed({
          process: child,
          child: { pid: child.pid ?? 0, ended: Deferred.await(done), end: () => end, log: () => [...lines.last] }
        })
      )
    }
    if (early === undefined) child.once("spawn", started)
    else started()
  })

const stop = (process: ChildProcess, child: Child, { cleanup }: Command): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (child.end() !== undefined) return Effect.void
    process.stdin?.end()
    signalGroup(process, "SIGTERM")
    return Effect.async<void>((resume) => {
      const maxWait = gracePeriod + (cleanup === undefined ? 1_000 : cleanupTimeout)
      const timer = setTimeout(() => signalGroup(process, "SIGKILL"), maxWait)
      process.once("exit", () => {
        clearTimeout(timer)
        resume(Effect.void)
      })
      if (process.exitCode !== null || process.signalCode !== null) {
        clearTimeout(timer)
        resume(Effect.void)
      }
    })
  })

// =============================================================================
// Ports
// =============================================================================

/** Ports that were given out, possibly without a listener yet. */
const reserved = new Set<number>()

const listenOnce = Effect.async<number, { readonly reason: string }>((resume) => {
  const server = createServer()
  server.once("error", (error) => resume(Effect.fail({ reason: `there is no free port: ${error.message}` })))
  server.listen(0, "127.0.0.1", () => {
    const { port } = server.address() as AddressInfo
    server.close(() => resume(Effect.succeed(port)))
  })
})

const freePort: SystemService["freePort"] = Effect.acquireRelease(
  Effect.gen(function* () {
    while (true) {
      const port = yield* listenOnce
      if (reserved.has(port)) continue
      reserved.add(port)
      return port
    }
  }),
  (port) => Effect.sync(() => reserved.delete(port))
)

/** What engines need of the system, on Node. */
export const layer: Layer.Layer<System> = Layer.succeed(System, {
  find: (program) => Effect.sync(() => find(program)),
  self: Effect.sync(commandLine),
  hasPackage: (name) => Effect.sync(() => hasPackage(name)),
  spawn: (command, line) =>
    Effect.map(
      Effect.acquireRelease(launch(command, line), ({ child, process }) => stop(process, child, command)),
      ({ child }) => child
    ),
  freePort
})
