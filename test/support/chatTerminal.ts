import { spawn, spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, afterEach, beforeAll } from "vitest"
import { startTerminal, type Terminal } from "./terminal.js"

const root = fileURLToPath(new URL("../..", import.meta.url))
const bin = join(root, "dist/bin.js")

export interface ChatOptions {
  readonly columns?: number
  readonly rows?: number
  readonly env?: { readonly [name: string]: string }
  /** The servers; none: the built-in model answers. */
  readonly servers?: ReadonlyArray<{ readonly url: string }>
}

/** The command line on terminals. Each test has a home of its own. */
export const useChats = () => {
  let base = ""
  let home = ""
  let homes = 0
  const terminals: Array<Terminal> = []

  beforeAll(() => {
    const built = spawnSync(process.execPath, [join(root, "scripts/setup.mjs")], { encoding: "utf8" })
    if (built.status !== 0) throw new Error(built.stderr)
    base = mkdtempSync(join(tmpdir(), "aicortex-terminal-"))
  }, 120_000)
  afterEach(() => {
    for (const terminal of terminals.splice(0)) terminal.stop()
    home = ""
  })
  afterAll(() => rmSync(base, { recursive: true, force: true }))

  const folder = (): string => {
    if (home === "") {
      home = join(base, String(homes++))
      mkdirSync(home)
    }
    return home
  }

  const environment = ({ env, servers }: ChatOptions): { readonly [name: string]: string | undefined } => ({
    PATH: process.env["PATH"],
    TERM: "xterm-256color",
    HOME: folder(),
    XDG_CONFIG_HOME: join(folder(), "config"),
    XDG_STATE_HOME: join(folder(), "state"),
    AICORTEX_SERVERS: servers?.map(({ url }) => url).join(",") ?? "",
    ...env
  })

  const start = (args: ReadonlyArray<string>, options: ChatOptions = {}): Terminal => {
    const terminal = startTerminal([process.execPath, bin, ...args], { ...options, env: environment(options) })
    terminals.push(terminal)
    return terminal
  }

  return {
    /** The home of this test. */
    folder,
    start,
    /** Starts a conversation, and waits for its first prompt. */
    chat: async (args: ReadonlyArray<string> = ["--model", "aicortex-demo"], options: ChatOptions = {}) => {
      const terminal = start(["chat", ...args], options)
      await terminal.shows(/^\S+>/m)
      return terminal
    },
    /** A command that runs to its end, off a terminal. */
    run: (args: ReadonlyArray<string>, options: ChatOptions & { readonly input?: string } = {}) =>
      new Promise<{ readonly status: number | null; readonly stdout: string; readonly stderr: string }>((resolve) => {
        const child = spawn(process.execPath, [bin, ...args], { env: environment(options) })
        let stdout = ""
        let stderr = ""
        child.stdout.setEncoding("utf8").on("data", (text: string) => {
          stdout += text
        })
        child.stderr.setEncoding("utf8").on("data", (text: string) => {
          stderr += text
        })
        child.on("close", (status) => resolve({ status, stdout, stderr }))
        child.stdin.end(options.input ?? "")
      })
  }
}
