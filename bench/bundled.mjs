// Bundles a program of the bench with the sources it measures, and runs it with this program's arguments.
import { spawn } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"

export const root = fileURLToPath(new URL("..", import.meta.url))

export const runBundled = async (entry, variables = {}) => {
  // Inside node_modules, so that bare imports resolve; a folder per run, so that two runs do not meet.
  const cache = join(root, "node_modules", ".cache", "aicortex-bench")
  mkdirSync(cache, { recursive: true })
  const outdir = mkdtempSync(join(cache, "bundled-"))
  const clean = () => rmSync(outdir, { recursive: true, force: true })
  try {
    await build({
      entryPoints: [join(root, "bench", entry)],
      outfile: join(outdir, "run.js"),
      bundle: true,
      format: "esm",
      platform: "node",
      target: "node20",
      packages: "external",
      logLevel: "warning"
    })
    const env = { ...variables, ...process.env }
    const child = spawn(process.execPath, [join(outdir, "run.js"), ...process.argv.slice(2)], { stdio: "inherit", env })
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
