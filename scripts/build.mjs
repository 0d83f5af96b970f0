/**
 * Builds dist/.
 *
 *   node scripts/build.mjs          everything that is published
 *   node scripts/build.mjs --bin    only the command line
 *
 * dist/*.js, dist/*.d.ts   the library, one file per module, by tsc
 * dist/THIRD-PARTY-NOTICES  the licences of what the bundle holds; dist/.bin.json says what that is
 * dist/bin.js, dist/bin/   the command line, bundled with all its dependencies: it starts three times faster than unbundled
 */
import { spawnSync } from "node:child_process"
import { chmodSync, mkdirSync, readdirSync, renameSync, rmSync, utimesSync, writeFileSync } from "node:fs"
import { readFile } from "node:fs/promises"
import { join, relative } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { notices } from "./notices.mjs"

export const root = fileURLToPath(new URL("..", import.meta.url))
const src = join(root, "src")
const dist = join(root, "dist")

/** It stands in front so that a Node that can keep compiled code between runs (22.8 and later) does it. */
const loader = `#!/usr/bin/env node
import module from "node:module"

module.enableCompileCache?.()
await import("./bin/main.js")
`

/**
 * Modules find their files with `new URL("../registry/…", import.meta.url)`. The bundle moves them all to dist/bin/, so
 * each is given the URL that it would have without: dist/a/B.js for src/a/B.ts.
 *
 * @type {import("esbuild").Plugin}
 */
const moduleUrls = {
  name: "module-urls",
  setup(build) {
    build.onLoad({ filter: /\.ts$/ }, async ({ path }) => {
      const module = relative(src, path).replaceAll("\\", "/").replace(/\.ts$/, ".js")
      if (module.startsWith("../")) return undefined
      const url = `new URL(${JSON.stringify(`../${module}`)}, import.meta.url).href`
      return { loader: "ts", contents: (await readFile(path, "utf8")).replaceAll("import.meta.url", () => url) }
    })
  }
}

/** Bundles src/cli/bin.ts into dist/bin/, one chunk for each lazily imported part, and puts dist/bin.js in front of it. */
export const buildBin = async () => {
  const started = new Date()
  const esbuild = await import("esbuild")
  const outdir = join(dist, `.bin-${process.pid}`)
  try {
    const { metafile } = await esbuild.build({
      absWorkingDir: root,
      entryPoints: { main: "src/cli/bin.ts" },
      outdir,
      bundle: true,
      splitting: true,
      chunkNames: "[name]-[hash]",
      format: "esm",
      platform: "node",
      target: "node20",
      // Less to read at every start; names stay, so that a stack trace can be read too.
      minifyWhitespace: true,
      minifySyntax: true,
      legalComments: "none",
      logLevel: "warning",
      metafile: true,
      external: ["node-llama-cpp", "@parcel/watcher"],
      banner: {
        js: 'import { createRequire as createRequire_ } from "node:module"; const require = createRequire_(import.meta.url);'
      },
      plugins: [moduleUrls]
    })
    writeFileSync(join(dist, "THIRD-PARTY-NOTICES"), notices(metafile, root))
    writeFileSync(join(dist, ".bin.json"), JSON.stringify(metafile))
    // A rename at the end: a command that starts meanwhile finds the old bundle or the new one, never half of one.
    const old = join(dist, `.old-${process.pid}`)
    try {
      renameSync(join(dist, "bin"), old)
    } catch {
      // There was none.
    }
    renameSync(outdir, join(dist, "bin"))
    rmSync(old, { recursive: true, force: true })
  } finally {
    rmSync(outdir, { recursive: true, force: true })
  }
  const bin = join(dist, "bin.js")
  writeFileSync(bin, loader)
  chmodSync(bin, 0o755)
  // A source that changed while this ran is newer than this and is built again.
  utimesSync(bin, started, started)
}

/** Compiles src/ without src/cli/ into dist/, and removes what no source stands for any more. */
export const buildLib = () => {
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
    if (!entry.isFile() || /^(bin[\\/]|bin\.js$|THIRD-PARTY-NOTICES$|\.)/.test(file)) continue
    if (!modules.has(file.replace(/(\.d\.ts|\.js)(\.map)?$/, ""))) rmSync(join(dist, file))
  }
  utimesSync(join(dist, "index.js"), started, started)
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  try {
    if (!process.argv.includes("--bin")) buildLib()
    await buildBin()
  } catch (error) {
    process.stderr.write(`aicortex: the build failed: ${error instanceof Error ? error.message : error}\n`)
    process.exitCode = 1
  }
}
