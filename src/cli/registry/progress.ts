/** Shows on a terminal how many servers have answered: one line on standard error, which is gone at the end. */
import type { Asked } from "../../RegistryPipeline.js"
import * as Output from "../output.js"

/** How often it is drawn, in milliseconds. */
const interval = 100

/** The progress of one command. */
export class Progress {
  private readonly terminal = Output.isTerminal(process.stderr)
  private drawnAt = Number.NEGATIVE_INFINITY
  private drawn = false

  /** After each server. */
  tell({ done, rejected, total }: Asked): void {
    const now = performance.now()
    if (!this.terminal || (now - this.drawnAt < interval && done < total)) return
    this.drawnAt = now
    this.drawn = true
    process.stderr.write(`\r\u001b[Kasked ${done} of ${total} servers, ${rejected} left out`)
  }

  /** Removes the line. */
  close(): void {
    if (this.drawn) process.stderr.write("\r\u001b[K")
  }
}
