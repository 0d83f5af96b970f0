/** For esbuild: the package is its source, and a module finds its files as if it were not bundled. */
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))

/** @type {import("esbuild").Plugin} */
export const fromSource = {
  name: "from-source",
  setup(build) {
    build.onResolve({ filter: /^aicortex(\/(promise|browser))?$/ }, ({ path }) => ({
      path: join(root, "src", path === "aicortex" ? "index.ts" : `${path.slice("aicortex/".length)}.ts`)
    }))
    build.onLoad({ filter: /[\\/]src[\\/].*\.ts$/ }, async ({ path }) => ({
      loader: "ts",
      contents: (await readFile(path, "utf8")).replaceAll("import.meta.url", JSON.stringify(pathToFileURL(path).href))
    }))
  }
}
