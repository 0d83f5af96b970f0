/**
 * The entry point. `--version` and an `engine` with flags in their ordinary form are handled before the command line is
 * loaded.
 */
import { existsSync } from "node:fs"
import { version } from "../internal/version.js"
import { readPlain } from "./engine/plainFlags.js"

const [first, ...others] = process.argv.slice(2)

if (others.length === 0 && (first === "--version" || first === "-V")) {
  // A closed pipe is no failure; any other error is.
  process.stdout.on("error", (error) => {
    if ("code" in error && error.code === "EPIPE") return
    process.stderr.write(`aicortex: standard output cannot be written: ${error.message}\n`)
    process.exitCode = 1
  })
  process.stdout.write(`${version}\n`)
} else {
  const plain = first === "engine" ? readPlain(others) : undefined
  if (plain !== undefined && existsSync(plain.file)) {
    const { start } = await import("./engine/start.js")
    await start(plain)
  } else {
    const { main } = await import("./main.js")
    main(process.argv.slice(2))
  }
}
