import { openSync, writeSync } from "node:fs"

/**
 * Keeps the cores awake, as one does where latency is measured: with one connection only one process has work at any
 * time, and the others' cores would sleep between any two of its steps. Linux takes the wish back when the file closes.
 * Whether it could be done.
 */
export const keepAwake = () => {
  try {
    writeSync(openSync("/dev/cpu_dma_latency", "w"), Buffer.alloc(4))
    return true
  } catch (error) {
    process.stderr.write(
      `The cores cannot be kept awake (${error.code}), so at one connection it is mostly their waking that is timed.\n`
    )
    return false
  }
}
