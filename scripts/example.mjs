/** Runs a program of examples/, or any other file, on the source: `npm run -s example -- chat`, `… -- hello.ts`. */
import { spawnSync } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs"
import { basename, join, resolve } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))
const [name = "", ...args] = process.argv.slice(2)
const own = resolve(process.env["INIT_CWD"] ?? "", name)
const file = /\.[cm]?[jt]s$/.test(name) ? own : join(root, "examples", `${name}.ts`)
if (name === "" || !existsSync(file)) {
  const names = readdirSync(join(root, "examples")).flatMap((one) => (one.endsWith(".ts") ? [one.slice(0, -3)] : []))
  process.stderr.write(`Which one? npm run -s example -- NAME\n${names.map((one) => `  ${one}\n`).join("")}`)
  process.exit(2)
}

const { build } = await import("esbuild")
const { fromSource } = await import("./fromSource.mjs")
// Inside node_modules, so that bare imports resolve.
const cache = join(root, "node_modules", ".cache", "aicortex-examples")
mkdirSync(cache, { recursive: true })
const folder = mkdtempSync(join(cache, "run-"))
try {
  const outfile = join(folder, `${basename(name)}.mjs`)
  await build({
    entryPoints: [file],
    outfile,
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node20",
    packages: "external",
    plugins: [fromSource]
  })
  process.exitCode = spawnSync(process.execPath, [outfile, ...args], { stdio: "inherit" }).status ?? 1
} finally {
  rmSync(folder, { recursive: true, force: true })
}
