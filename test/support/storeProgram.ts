/** Programs of `test/support` that run as processes of their own. */
import { type ChildProcess, spawn } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"

const root = fileURLToPath(new URL("../..", import.meta.url))

export interface Program {
  readonly start: (...args: ReadonlyArray<string>) => ChildProcess
  readonly remove: () => void
}

/** Bundles one, inside node_modules, so that imports of packages resolve. */
export const makeProgram = async (name: string): Promise<Program> => {
  const cache = join(root, "node_modules", ".cache", "aicortex-test")
  mkdirSync(cache, { recursive: true })
  const outdir = mkdtempSync(join(cache, `${name}-`))
  const outfile = join(outdir, `${name}.mjs`)
  await build({
    entryPoints: [join(root, `test/support/${name}.ts`)],
    outfile,
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node20",
    external: ["node-llama-cpp", "@libsql/client", "libsql", "pg-native"],
    alias: { aicortex: join(root, "src/index.ts") },
    banner: {
      js: 'import { createRequire as createRequire_ } from "node:module"; const require = createRequire_(import.meta.url);'
    }
  })
  return {
    start: (...args) => spawn(process.execPath, [outfile, ...args], { stdio: ["ignore", "pipe", "inherit"] }),
    remove: () => rmSync(outdir, { recursive: true, force: true })
  }
}
