/**
 * Builds dist/.
 *
 *   node scripts/build.mjs          everything that is published
 *   node scripts/build.mjs --bin    only the command line
 *
 * dist/*.js, dist/*.d.ts   the library for programs with Effect, one file per module, by tsc
 * dist/bundle/             the entries for programs without it, bundled with all their dependencies
 * dist/bin.js, dist/bin/   the command line, bundled too: it starts three times faster than unbundled
 * dist/dashboard/          the page that the gateway serves
 * dist/THIRD-PARTY-NOTICES  the licences of what the bundles hold; dist/.bin.json and .bundle.json say what that is
 */
import { spawnSync } from "node:child_process"
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs"
import { join, relative } from "node:path"
import { pathToFileURL } from "node:url"
import { bundleCommand, bundleEntries, dist, root, src } from "./bundle.mjs"
import { buildDashboard } from "./dashboard.mjs"
import { notices } from "./notices.mjs"

/** It stands in front so that a Node that can keep compiled code between runs (22.8 and later) does it. */
const loader = `#!/usr/bin/env node
import module from "node:module"

module.enableCompileCache?.()
await import("./bin/main.js")
`

/** Notes what went into a bundle, and names the packages of all bundles. */
const note = (/** @type {string} */ name, /** @type {import("esbuild").Metafile} */ metafile) => {
  writeFileSync(join(dist, `.${name}.json`), JSON.stringify(metafile))
  const inputs = ["bin", "bundle", "dashboard"].flatMap((one) => {
    const file = join(dist, `.${one}.json`)
    return existsSync(file) ? [JSON.parse(readFileSync(file, "utf8")).inputs] : []
  })
  writeFileSync(join(dist, "THIRD-PARTY-NOTICES"), notices({ inputs: Object.assign({}, ...inputs), outputs: {} }, root))
}

/** Bundles the command line, and puts dist/bin.js in front of it. */
export const buildBin = async () => {
  const started = new Date()
  note("bin", await bundleCommand())
  const bin = join(dist, "bin.js")
  writeFileSync(bin, loader)
  chmodSync(bin, 0o755)
  // A source that changed while this ran is newer than this and is built again.
  utimesSync(bin, started, started)
}

/** Builds the page. */
export const buildPage = async () => {
  const { metafile, started } = await buildDashboard()
  note("dashboard", metafile)
  utimesSync(join(dist, "dashboard/index.html"), started, started)
}

/** Compiles src/ without src/cli/ into dist/, removes what no source stands for any more, and bundles the entries. */
export const buildLib = async () => {
  const started = new Date()
  mkdirSync(dist, { recursive: true })
  const tsc = join(root, "node_modules/typescript/bin/tsc")
  const result = spawnSync(process.execPath, [tsc, "-p", join(root, "tsconfig.build.json")], {
    stdio: ["ignore", 2, 2]
  })
  if (result.status !== 0) throw new Error("tsc found errors: dist/ keeps the previous build.")
  const modules = new Set(
    readdirSync(src, { recursive: true, encoding: "utf8" }).map((file) => file.replace(/\.ts$/, ""))
  )
  for (const entry of readdirSync(dist, { recursive: true, withFileTypes: true })) {
    const file = relative(dist, join(entry.parentPath, entry.name))
    if (!entry.isFile() || /^((bin|bundle|dashboard)[\\/]|bin\.js$|THIRD-PARTY-NOTICES$|\.)/.test(file)) continue
    if (!modules.has(file.replace(/(\.d\.ts|\.js)(\.map)?$/, ""))) rmSync(join(dist, file))
  }
  note("bundle", await bundleEntries())
  utimesSync(join(dist, "index.js"), started, started)
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  try {
    if (!process.argv.includes("--bin")) await buildLib()
    await buildPage()
    await buildBin()
  } catch (error) {
    process.stderr.write(`aicortex: the build failed: ${error instanceof Error ? error.message : error}\n`)
    process.exitCode = 1
  }
}
