/**
 * Runs the blocks of one page one after another in one process: each begins when nothing is left to do of the one before.
 * `node runner.mjs FILE…`; a line with a zero byte stands between their outputs.
 */
import { pathToFileURL } from "node:url"

const files = process.argv.slice(2)
let next = 0

const begin = () => {
  const file = files[next]
  if (file === undefined) return
  if (next > 0) for (const stream of [process.stdout, process.stderr]) stream.write("\n\0\n")
  next += 1
  import(pathToFileURL(file).href).catch((error) => {
    console.error(error)
    process.exit(1)
  })
}

process.on("beforeExit", begin)
begin()
