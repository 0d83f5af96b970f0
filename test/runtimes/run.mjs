/**
 * Runs the package in Chromium, Bun, Deno and newer versions of Node: `npm run test:runtimes`. Further arguments go to vitest.
 *
 * Bun, Deno and another Node come from the npm registry, once. Chromium is the system's: AICORTEX_TEST_CHROMIUM, or one on the path.
 */
import { spawnSync } from "node:child_process"
import { accessSync, constants } from "node:fs"
import { delimiter, join } from "node:path"
import { fileURLToPath } from "node:url"
import { install, run } from "../support/pinned.mjs"

const here = fileURLToPath(new URL(".", import.meta.url))
const root = fileURLToPath(new URL("../..", import.meta.url))

/** @type {(message: string) => void} */
const say = (message) => void process.stderr.write(`test:runtimes: ${message}\n`)

const isProgram = (/** @type {string} */ path) => {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

const chromium = () =>
  [
    process.env["AICORTEX_TEST_CHROMIUM"] ?? "",
    ...(process.env["PATH"] ?? "")
      .split(delimiter)
      .flatMap((folder) => ["chromium", "chromium-browser", "google-chrome"].map((name) => join(folder, name)))
  ].find((path) => path !== "" && isProgram(path))

const main = () => {
  if (process.platform !== "linux" || process.arch !== "x64") {
    say(`skipped: the runtimes are pinned for linux-x64, and this is ${process.platform}-${process.arch}.`)
    return 0
  }
  const browser = chromium()
  if (browser === undefined) {
    say("NOT RUN in Chromium: there is none; apt-get install chromium, or set AICORTEX_TEST_CHROMIUM.")
  }
  if (run(say, process.execPath, [join(root, "scripts/setup.mjs"), "--all"], root) !== 0) return 1
  install(say, here, "Bun, Deno and Node 24, about 390 MB unpacked")
  const vitest = [join(root, "node_modules/vitest/vitest.mjs"), "run", "--config", join(here, "vitest.config.ts")]
  if (browser === undefined) vitest.push("--exclude", "**/chromium.runtime.ts", "--exclude", "**/dashboard*.runtime.ts")
  const { status } = spawnSync(process.execPath, [...vitest, ...process.argv.slice(2)], {
    cwd: root,
    stdio: "inherit",
    env: { ...process.env, ...(browser === undefined ? {} : { AICORTEX_TEST_CHROMIUM: browser }) }
  })
  return status ?? 1
}

try {
  process.exitCode = main()
} catch (error) {
  say(error instanceof Error ? error.message : String(error))
  process.exitCode = 1
}
