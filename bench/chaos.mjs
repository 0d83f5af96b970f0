// Bundles the chaos suite and runs it: `node bench/chaos.mjs [--seed 1] [--streams 500] [--calls 500] …`; see README.md.
import { spawn } from "node:child_process"
import { mkdirSync, rmSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"

const root = fileURLToPath(new URL("..", import.meta.url))

// As far below the root as the sources are, because they look for the model from where they stand; inside
// node_modules, so that bare imports resolve; a file per run, so that two runs do not meet.
const cache = join(root, "node_modules", ".cache")
mkdirSync(cache, { recursive: true })
const outfile = join(cache, `aicortex-chaos-${process.pid}.js`)
const clean = () => rmSync(outfile, { force: true })

try {
  await build({
    entryPoints: [join(root, "bench", "chaos", "run.ts")],
    outfile,
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node20",
    packages: "external",
    logLevel: "warning"
  })
  const child = spawn(process.execPath, [outfile, ...process.argv.slice(2)], { stdio: "inherit" })
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill(signal))
  child.on("exit", (code) => {
    clean()
    process.exitCode = code ?? 1
  })
} catch (error) {
  clean()
  throw error
}
