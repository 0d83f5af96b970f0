/** dist/dashboard/: the page that the gateway serves at `/`, built by Vite. */
import { mkdirSync, readdirSync, renameSync, rmSync, statSync } from "node:fs"
import { join } from "node:path"
import { dist, root, src } from "./bundle.mjs"

/**
 * The API viewer sets inline styles, which the page's policy forbids: `inlineStyles.ts` applies them where they have other
 * names. What is bundled in it looks for the global object where modules have none.
 *
 * @type {ReadonlyArray<readonly [package: string, text: RegExp, by: string]>}
 */
const patches = [
  ["openapi-explorer", / style=(["'])/g, " data-style=$1"],
  ["openapi-explorer", /<style>/g, "<inline-style>"],
  ["openapi-explorer", /<\/style>/g, "</inline-style>"],
  // The page has a main landmark.
  ["openapi-explorer", /<(\/?)main\b/g, "<$1div"],
  // No level of headings is left out.
  ["openapi-explorer", /this\.renderStyle === 'focused' \? 3 : 4/g, "2"],
  ["openapi-resolver", /this\["webpackChunk/g, 'globalThis["webpackChunk'],
  ["openapi-resolver", /\}\)\(this, /, "})(globalThis, "]
]

/** A plugin of one build, which fails where another version of the viewer has nothing to patch. */
const viewerPlugin = () => {
  const missing = new Set(patches)
  /** @type {import("vite").Plugin} */
  const plugin = {
    name: "viewer",
    enforce: "pre",
    transform: (code, id) => {
      let patched = code
      for (const patch of patches) {
        const [name, text, by] = patch
        if (!id.includes(`node_modules/${name}/`)) continue
        const before = patched
        patched = before.replace(text, by)
        if (patched !== before) missing.delete(patch)
      }
      return patched === code ? null : patched
    },
    buildEnd: (error) => {
      if (error !== undefined || missing.size === 0) return
      const texts = [...missing].map(([name, text]) => `${text} in ${name}`).join(", ")
      throw new Error(`The page's API viewer has nothing to patch for ${texts}: see scripts/dashboard.mjs.`)
    }
  }
  return plugin
}

/** Gives what went into it, as esbuild tells it of its bundles. */
export const buildDashboard = async () => {
  const started = new Date()
  const { build } = await import("vite")
  const outDir = join(dist, `.dashboard-${process.pid}`)
  const old = join(dist, `.old-dashboard-${process.pid}`)
  /** @type {Set<string>} */
  const inputs = new Set()
  try {
    mkdirSync(dist, { recursive: true })
    await build({
      root: join(src, "dashboard"),
      configFile: false,
      envFile: false,
      publicDir: false,
      logLevel: "warn",
      base: "./",
      cacheDir: join(root, "node_modules/.cache/vite"),
      esbuild: { jsx: "automatic", jsxImportSource: "preact", legalComments: "none" },
      build: {
        outDir,
        emptyOutDir: true,
        target: "es2022",
        assetsDir: "dashboard",
        assetsInlineLimit: 0,
        modulePreload: { polyfill: false },
        reportCompressedSize: false,
        chunkSizeWarningLimit: 1_000,
        rollupOptions: {
          onwarn: (warning, warn) => {
            if (warning.code !== "MODULE_LEVEL_DIRECTIVE") warn(warning)
          }
        }
      },
      plugins: [
        viewerPlugin(),
        {
          name: "inputs",
          generateBundle: (_, bundle) => {
            for (const chunk of Object.values(bundle)) {
              if (chunk.type === "chunk") for (const id of Object.keys(chunk.modules)) inputs.add(id)
              else for (const id of chunk.originalFileNames) inputs.add(join(src, "dashboard", id))
            }
          }
        }
      ]
    })
    // The files stand beside the page: the gateway serves them under /dashboard/.
    const assets = join(outDir, "dashboard")
    for (const name of readdirSync(assets)) renameSync(join(assets, name), join(outDir, name))
    rmSync(assets, { recursive: true, force: true })
    try {
      renameSync(join(dist, "dashboard"), old)
    } catch {
      // There was none.
    }
    renameSync(outDir, join(dist, "dashboard"))
  } finally {
    rmSync(outDir, { recursive: true, force: true })
    rmSync(old, { recursive: true, force: true })
  }
  const relative = [...inputs].flatMap((id) => {
    const path = id.replace(/^\0/, "").replace(/\?.*$/, "")
    return path.startsWith(root) && statSync(path, { throwIfNoEntry: false })?.isFile() === true
      ? [path.slice(root.length).replaceAll("\\", "/")]
      : []
  })
  return {
    started,
    metafile: {
      inputs: Object.fromEntries(relative.map((path) => [path, { bytes: 0, imports: [] }])),
      outputs: {}
    }
  }
}
