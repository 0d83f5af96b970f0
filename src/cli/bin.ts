/**
 * Where `aicortex` begins. The version is told before anything else is loaded.
 *
 * @since 0.1.0
 */
import { version } from "../internal/version.js"

const [first, ...others] = process.argv.slice(2)

if (others.length === 0 && (first === "--version" || first === "-V")) {
  process.stdout.write(`${version}\n`)
} else {
  const { main } = await import("./main.js")
  main(process.argv.slice(2))
}
