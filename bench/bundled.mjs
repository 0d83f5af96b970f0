// Bundles a program of the bench with the sources it measures, and runs it with this program's arguments.
import { spawn } from "node:child_process"
import { mkdirSync, rmSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"

export const root = fileURLToPath(new URL("..", import.meta.url))

export const runBundled = async (entry, variables = {}) => {
  // Inside node_modules, so that bare imports resolve; as far below the root as the sources are, because they look for
  // the built-in model from where they stand; a file per run, so that two runs do not meet.
  const cache = join(root, "node_modules", ".cache")
  mkdirSync(cache, { recursive: true })
  const outfile = join(cache, `aicortex-bench-${process.pid}.js`)
  const clean = () => rmSync(outfile, { force: true })
  try {
    await build({
      entryPoints: [join(root, "bench", entry)],
      outfile,
      bundle: true,
      format: "esm",
      platform: "node",
      target: "node20",
      packages: "external",
      logLevel: "warning"
    })
    const env = { ...variables, ...process.env }
    const child = spawn(process.execPath, [outfile, ...process.argv.slice(2)], { stdio: "inherit", env })
    for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill(signal))
    child.on("exit", (code) => {
      clean()
      process.exitCode = code ?? 1
    })
  } catch (error) {
    clean()
    throw error
  }
}
