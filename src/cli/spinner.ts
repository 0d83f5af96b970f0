/** A spinner on standard error, if both outputs are terminals. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { dim, isTerminal } from "./output.js"

const frames = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"]
const erase = "\r\u001b[K"

/** Call `stop` before writing to the terminal; calling it again is fine. */
export interface Spinner {
  readonly stop: () => void
}

/** A spinner that turns until it is stopped, or its scope ends. */
export const start: Effect.Effect<Spinner, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync((): Spinner => {
    if (!isTerminal(process.stderr) || process.stdout.isTTY !== true) return { stop: () => {} }
    let shown = false
    let frame = 0
    let timer: NodeJS.Timeout | undefined = setInterval(() => {
      shown = true
      process.stderr.write(`\r${dim(frames[frame++ % frames.length] ?? "", process.stderr)}`)
    }, 100)
    return {
      stop: () => {
        if (timer === undefined) return
        clearInterval(timer)
        timer = undefined
        if (shown) process.stderr.write(erase)
      }
    }
  }),
  (spinner) => Effect.sync(spinner.stop)
)
