/** Programs of users, in processes of their own. */
import { type ChildProcess, spawn } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"
import { fromSource } from "../../scripts/fromSource.mjs"

const root = fileURLToPath(new URL("../..", import.meta.url))

export interface Program extends AsyncDisposable {
  /** Starts it; what it prints comes from `stdout`. */
  readonly start: (args: ReadonlyArray<string>, env?: NodeJS.ProcessEnv) => ChildProcess
}

/** A program of this text, an ES module that may import `aicortex/promise`. */
export const program = async (contents: string): Promise<Program> => {
  // Inside node_modules, so that bare imports resolve.
  const cache = join(root, "node_modules", ".cache", "aicortex-test")
  mkdirSync(cache, { recursive: true })
  const folder = mkdtempSync(join(cache, "program-"))
  const outfile = join(folder, "program.mjs")
  await build({
    stdin: { contents, resolveDir: root, loader: "ts" },
    outfile,
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node20",
    logLevel: "silent",
    external: ["node-llama-cpp"],
    alias: { "jsonc-parser": join(root, "node_modules/jsonc-parser/lib/esm/main.js") },
    banner: {
      js: 'import { createRequire as createRequire_ } from "node:module"; const require = createRequire_(import.meta.url);'
    },
    plugins: [fromSource]
  })
  return {
    start: (args, env = {}) =>
      spawn(process.execPath, [outfile, ...args], {
        env: { ...process.env, ...env },
        stdio: ["ignore", "pipe", "inherit"]
      }),
    [Symbol.asyncDispose]: async () => rmSync(folder, { recursive: true, force: true })
  }
}

/** The first line that a process prints. */
export const firstLine = (child: ChildProcess): Promise<string> =>
  new Promise((resolve, reject) => {
    let out = ""
    child.stdout?.setEncoding("utf8").on("data", (piece: string) => {
      out += piece
      const end = out.indexOf("\n")
      if (end >= 0) resolve(out.slice(0, end))
    })
    child.once("exit", (code) => reject(new Error(`it ended with ${code}: ${out}`)))
  })
