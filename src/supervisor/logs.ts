/** The logs of engines: a file for each model, rotated when it is large. */
import { appendFileSync, renameSync, statSync } from "node:fs"
import { logOf, type Paths } from "./paths.js"

/** In bytes; there may be two files of this size. */
const maxBytes = 8 * 1024 * 1024

/** Writes lines with their times. A line that cannot be written is dropped. */
export const makeWriter = (paths: Paths): ((model: string, text: string) => void) => {
  const sizes = new Map<string, number>()
  return (model, text) => {
    const file = logOf(paths, model)
    const line = `${new Date().toISOString()} ${text}\n`
    try {
      let size = sizes.get(file) ?? statSync(file, { throwIfNoEntry: false })?.size ?? 0
      if (size > maxBytes) {
        renameSync(file, `${file}.1`)
        size = 0
      }
      appendFileSync(file, line, { mode: 0o600 })
      sizes.set(file, size + Buffer.byteLength(line))
    } catch {
      // A full disk stops no model.
    }
  }
}
