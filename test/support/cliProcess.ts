/** Runs the built command line in a home of its own. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../..", import.meta.url))
export const bin = join(root, "dist/bin.js")

/** Builds it, where it is stale. */
export const build = (): void => {
  const { status, stderr } = spawnSync(process.execPath, [join(root, "scripts/setup.mjs")], { encoding: "utf8" })
  if (status !== 0) throw new Error(stderr)
}

export interface Ended {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

export interface Home extends AsyncDisposable {
  readonly path: string
  /** The configuration file. */
  readonly file: string
  /** Writes a file there; returns its path. */
  readonly write: (name: string, content: string | Uint8Array) => string
  /** What commands have as their environment. */
  readonly environment: (env?: NodeJS.ProcessEnv) => NodeJS.ProcessEnv
  readonly start: (args: ReadonlyArray<string>, env?: NodeJS.ProcessEnv) => ChildProcess
  /** `input` is what is piped in; default: nothing. */
  readonly run: (args: ReadonlyArray<string>, env?: NodeJS.ProcessEnv, input?: string) => Promise<Ended>
}

export const ended = (child: ChildProcess): Promise<Ended> =>
  new Promise((resolve) => {
    let out = ""
    let err = ""
    child.stdout?.setEncoding("utf8").on("data", (piece: string) => {
      out += piece
    })
    child.stderr?.setEncoding("utf8").on("data", (piece: string) => {
      err += piece
    })
    child.on("close", (code) => resolve({ code, out, err }))
  })

/** A home with this configuration file; without one where there is none. */
export const makeHome = (config?: unknown): Home => {
  const path = mkdtempSync(join(tmpdir(), "aicortex-home-"))
  const file = join(path, "config.json")
  if (config !== undefined) writeFileSync(file, JSON.stringify(config))
  const environment: Home["environment"] = (env = {}) => ({
    PATH: process.env["PATH"],
    HOME: path,
    XDG_CONFIG_HOME: path,
    ...(config === undefined ? {} : { AICORTEX_CONFIG: file }),
    ...env
  })
  const write: Home["write"] = (name, content) => {
    writeFileSync(join(path, name), content)
    return join(path, name)
  }
  const start: Home["start"] = (args, env = {}) =>
    spawn(process.execPath, [bin, ...args], { env: environment(env), stdio: ["ignore", "pipe", "pipe"] })
  const run: Home["run"] = (args, env = {}, input) => {
    if (input === undefined) return ended(start(args, env))
    // Node gives a socket to the processes that it starts: only a shell gives a pipe.
    const text = join(path, "input")
    writeFileSync(text, input)
    const script = 'input=$1; shift; cat "$input" | "$@"'
    const words = ["-c", script, "sh", text, process.execPath, bin, ...args]
    return ended(spawn("sh", words, { env: environment(env), stdio: ["ignore", "pipe", "pipe"] }))
  }
  return {
    path,
    file,
    write,
    environment,
    start,
    run,
    [Symbol.asyncDispose]: async () => rmSync(path, { recursive: true, force: true })
  }
}
