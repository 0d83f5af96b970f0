import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"

const src = (file: string) => fileURLToPath(new URL(`./src/${file}`, import.meta.url))

export default defineConfig({
  // Tests and examples may name the package; they always run its source.
  resolve: {
    alias: [
      { find: /^aicortex$/, replacement: src("index.ts") },
      { find: /^aicortex\/promise$/, replacement: src("promise.ts") },
      { find: /^aicortex\/browser$/, replacement: src("browser.ts") }
    ]
  },
  test: {
    include: ["test/**/*.test.ts"],
    pool: "forks",
    minWorkers: 1,
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // One line per test file; a passing test prints nothing of its own, a failing one everything.
    reporters: ["default"],
    silent: "passed-only"
  }
})
