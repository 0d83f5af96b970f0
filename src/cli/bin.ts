/** The entry point. `--version` is handled before anything else is loaded. */
import { version } from "../internal/version.js"

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
  const { main } = await import("./main.js")
  main(process.argv.slice(2))
}
