// Bundles the bench and runs it: `node bench/main.mjs [--quick] [--only=call,stream,startup] …`; see README.md.
import { spawn } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { build } from "esbuild"

const root = fileURLToPath(new URL("..", import.meta.url))
const args = process.argv.slice(2)

// Inside node_modules, so that bare imports resolve; a folder per run, so that two runs do not meet.
const cache = join(root, "node_modules", ".cache", "aicortex-bench")
mkdirSync(cache, { recursive: true })
const outdir = mkdtempSync(join(cache, "run-"))

const bundle = (entryPoints, logLevel) =>
  build({
    entryPoints,
    outdir,
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node20",
    packages: "external",
    logLevel
  })

/** What the variants import: the built package, as a user's `node_modules` would hold it, else the sources. */
const subject = async () => {
  if (!args.includes("--source") && existsSync(join(root, "dist", "index.js"))) {
    mkdirSync(join(outdir, "node_modules"))
    symlinkSync(root, join(outdir, "node_modules", "aicortex"), "dir")
    return { BENCH_SUBJECT: "dist", BENCH_EFFECT: "aicortex", BENCH_PROMISE: "aicortex/promise" }
  }
  const sources = [
    ["BENCH_EFFECT", "aicortex", join(root, "src", "index.ts")],
    ["BENCH_PROMISE", "aicortex-promise", join(root, "src", "promise.ts")]
  ].filter(([, , path]) => existsSync(path))
  if (sources.length === 0) return { BENCH_SUBJECT: "none" }
  try {
    await bundle(Object.fromEntries(sources.map(([, name, path]) => [name, path])), "silent")
  } catch (error) {
    return { BENCH_SUBJECT: "none", BENCH_REASON: error instanceof Error ? error.message : String(error) }
  }
  const url = (name) => pathToFileURL(join(outdir, `${name}.js`)).href
  return { BENCH_SUBJECT: "src", ...Object.fromEntries(sources.map(([variable, name]) => [variable, url(name)])) }
}

const clean = () => rmSync(outdir, { recursive: true, force: true })

try {
  await bundle({ run: join(root, "bench", "run.ts"), child: join(root, "bench", "child.ts") }, "warning")
  const env = { ...process.env, ...(await subject()), BENCH_ROOT: root }
  const child = spawn(process.execPath, [join(outdir, "run.js"), ...args], { stdio: "inherit", env })
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill(signal))
  child.on("exit", (code) => {
    clean()
    process.exitCode = code ?? 1
  })
} catch (error) {
  clean()
  throw error
}
