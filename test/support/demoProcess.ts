import { type ChildProcess, spawn } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync } from "node:fs"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"
import { defaultModelPath } from "../../src/backend/embedded.js"
import type { Continuation } from "./script.js"

/** A process of demoServer.ts. */
export interface DemoServer extends AsyncDisposable {
  readonly url: string
  /** Falls silent after so many pieces of the next answer. */
  readonly hold: (after: number) => Promise<void>
  /** SIGKILL; settles when it is gone. */
  readonly kill: () => Promise<void>
  /** SIGSTOP: it says nothing, and closes nothing; or SIGCONT. */
  readonly signal: (signal: "SIGSTOP" | "SIGCONT") => void
  /** The seeds of the requests that it is at, and whether their first token was sent. */
  readonly underWay: () => ReadonlyArray<{ readonly seed: number | undefined; readonly begun: boolean }>
}

/** Bundles demoServer.ts once, and starts processes of it. */
export const useDemoServers = async () => {
  const root = fileURLToPath(new URL("../..", import.meta.url))
  // Inside node_modules, so that bare imports resolve.
  const cache = join(root, "node_modules", ".cache", "aicortex-test")
  mkdirSync(cache, { recursive: true })
  const outdir = mkdtempSync(join(cache, "demo-"))
  const outfile = join(outdir, "demoServer.mjs")
  await build({
    entryPoints: [join(root, "test", "support", "demoServer.ts")],
    outfile,
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node20",
    // All but the engine is bundled: it starts in half the time.
    external: ["node-llama-cpp"]
  })
  const processes = new Set<ChildProcess>()

  const start = async (habit: Continuation = "continue", at = 0): Promise<DemoServer> => {
    const args = [outfile, defaultModelPath(), habit, String(at)]
    const child = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] })
    processes.add(child)
    const requests = new Map<number, { readonly seed: number | undefined; readonly begun: boolean }>()
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    const follow = async () => {
      for (let line = await lines.next(); line.done !== true; line = await lines.next()) {
        const { number, seed, step } = JSON.parse(line.value)
        if (step === "begin") requests.set(number, { seed, begun: false })
        else if (step === "token") requests.set(number, { seed: requests.get(number)?.seed, begun: true })
        else requests.delete(number)
      }
    }
    const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()))
    const port = await new Promise<string>((resolve, reject) => {
      void lines.next().then(({ value }) => resolve(value))
      child.once("error", reject)
      void gone.then(() => reject(new Error("the demo server ended before it listened")))
    })
    void follow()
    const url = `http://127.0.0.1:${port}`
    const kill = async () => {
      processes.delete(child)
      child.kill("SIGKILL")
      await gone
    }
    return {
      url,
      hold: async (after) => {
        await fetch(`${url}/hold`, { method: "POST", body: JSON.stringify({ after }) }).then((reply) => reply.text())
      },
      kill,
      signal: (signal) => void child.kill(signal),
      underWay: () => [...requests.values()],
      [Symbol.asyncDispose]: kill
    }
  }
  return {
    start,
    close: () => {
      for (const child of processes) child.kill("SIGKILL")
      rmSync(outdir, { recursive: true, force: true })
    }
  }
}
