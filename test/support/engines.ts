/** Fake engines on PATH, and what is left of processes and ports. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { createConnection } from "node:net"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import { fileURLToPath } from "node:url"
import { gguf } from "./gguf.js"

export interface Call {
  readonly program: string
  readonly args?: ReadonlyArray<string>
  readonly env?: { readonly [name: string]: string }
  readonly pid?: number
  readonly path?: string
  readonly body?: Record<string, unknown>
}

export interface FakeEngines extends AsyncDisposable {
  /** A folder of its own. */
  readonly folder: string
  /** A file that looks like a model. */
  readonly model: string
  /** The environment with these engines on PATH, and no others. */
  readonly env: { readonly [name: string]: string }
  /** How they were called, and what they were asked. */
  readonly calls: () => ReadonlyArray<Call>
  /** The names of the containers that there are. */
  readonly containers: () => ReadonlyArray<string>
}

/** Engines of these names (`llama-server`, `ollama`, `podman`, …); `does` is what they do: see fakeEngine.mjs. */
export const fakeEngines = (names: ReadonlyArray<string>, does: object = {}): FakeEngines => {
  const folder = mkdtempSync(join(tmpdir(), "aicortex-engines-"))
  const program = fileURLToPath(new URL("fakeEngine.mjs", import.meta.url))
  for (const name of names) symlinkSync(program, join(folder, name))
  symlinkSync(process.execPath, join(folder, "node"))
  const model = join(folder, "tiny.gguf")
  writeFileSync(model, gguf())
  const log = join(folder, "calls.jsonl")
  writeFileSync(log, "")
  return {
    folder,
    model,
    env: {
      PATH: [folder, "/usr/bin", "/bin"].join(delimiter),
      FAKE_ENGINE: JSON.stringify(does),
      FAKE_ENGINE_LOG: log
    },
    calls: () =>
      readFileSync(log, "utf8")
        .split("\n")
        .filter((line) => line !== "")
        .map((line) => JSON.parse(line) as Call),
    containers: () => (existsSync(`${log}.d`) ? readdirSync(`${log}.d`) : []),
    [Symbol.asyncDispose]: async () => rmSync(folder, { recursive: true, force: true })
  }
}

/** Whether a process runs; one that has ended and was not waited for does not. */
export const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
  } catch {
    return false
  }
  try {
    return !/^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, "utf8"))
  } catch {
    return process.platform !== "linux"
  }
}

/** Whether anything listens at a port of this machine. */
export const listens = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = createConnection({ host: "127.0.0.1", port })
    socket.once("connect", () => {
      socket.destroy()
      resolve(true)
    })
    socket.once("error", () => resolve(false))
  })

/** Waits until it holds; fails after 20 s, which is far more than it takes. */
export const until = async (what: string, test: () => boolean | Promise<boolean>): Promise<void> => {
  const end = Date.now() + 20_000
  while (!(await test())) {
    if (Date.now() > end) throw new Error(`not within 20 s: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
