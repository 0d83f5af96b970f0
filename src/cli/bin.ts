/**
 * The entry point. `--version` is handled before anything else is loaded, and the library of `engine` begins to start
 * while the command line is loaded.
 */
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
  if (first === "engine" && others.length > 0 && !others.some((word) => word === "--help" || word === "-h")) {
    const { prepare } = await import("../backend/embeddedEngine.js")
    prepare({ gpuLayers: others.includes("--ngl=0") || others[others.indexOf("--ngl") + 1] === "0" ? 0 : -1 })
  }
  const { main } = await import("./main.js")
  main(process.argv.slice(2))
}
