/** What is happening until an answer begins: a line on standard error, if both outputs are terminals. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { ChatEvent } from "../../ChatEvent.js"
import type { FailureReason } from "../../Errors.js"
import { dim, isTerminal, withoutControls } from "../output.js"

const frames = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"]
const erase = "\r\u001b[K"

/** How an attempt failed, behind the name of its server. */
const failed: { readonly [R in FailureReason]?: string } = {
  dns: "has no address",
  network: "cannot be reached",
  tls: "failed TLS",
  "connect-timeout": "did not answer",
  "first-token-timeout": "was too slow",
  "idle-timeout": "fell silent",
  "server-error": "failed",
  "model-failed": "could not run it",
  "model-not-found": "lacks it",
  "rate-limited": "has a rate limit",
  "invalid-request": "refused the request",
  busy: "is busy"
}

/** A server as users call it. */
const nameOf = (url: string): string => {
  if (!URL.canParse(url)) return url
  const { host, hostname, port } = new URL(url)
  if (hostname === "") return "the built-in engine"
  return port === "" || port === "11434" ? hostname : host
}

/** What is known of a call that has not been answered yet. */
export class Progress {
  private model: string | undefined
  private server: string | undefined
  private hedge: string | undefined
  private loads = false
  private readonly loading = new Set<string>()
  private readonly failures = new Map<string, string>()

  constructor(private readonly began: number) {}

  /** A model is asked. */
  starts(model: string): void {
    this.model = model
  }

  /** An event of the answer. */
  event(event: ChatEvent): void {
    if (event.type === "start") this.model = event.model
    else if (event.type === "meta" && event.meta.type === "attempt") {
      const { hedge, loads, server } = event.meta
      if (hedge === true) this.hedge = server
      else {
        this.server = server
        this.loads = loads === true || this.loading.has(server)
        this.failures.delete(server)
      }
    } else if (event.type === "error") {
      const { reason, server } = event.attempt
      if (reason === "loading") this.loading.add(server)
      else this.failures.set(server, failed[reason] ?? reason.replaceAll("-", " "))
    }
  }

  /** The same in words, at this time in milliseconds since the epoch. */
  text(now: number): string {
    const { failures, hedge, loads, model = "a model", server } = this
    const others = [...failures].map(([url, reason]) => `${nameOf(url)} ${reason}`)
    if (hedge !== undefined) others.push(`${nameOf(hedge)} is asked too`)
    const what =
      server === undefined
        ? `looking for a server with ${model}`
        : loads
          ? `${nameOf(server)} is loading ${model}`
          : `waiting for ${model} on ${nameOf(server)}`
    const seconds = Math.floor((now - this.began) / 1000)
    const notes = others.length === 0 ? "" : ` (${others.join(", ")})`
    return `${what} …${seconds < 1 ? "" : ` ${seconds} s`}${notes}`
  }
}

/** Call `stop` before writing to the terminal; calling it again is fine. */
export interface Waiting {
  readonly progress: Progress
  readonly stop: () => void
}

/** A line that is kept up to date until it is stopped, or its scope ends. */
export const start: Effect.Effect<Waiting, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync((): Waiting => {
    const progress = new Progress(Date.now())
    const { stderr, stdout } = process
    if (!isTerminal(stderr) || stdout.isTTY !== true) return { progress, stop: () => {} }
    let frame = 0
    let shown = false
    let timer: NodeJS.Timeout | undefined = setInterval(() => {
      shown = true
      // A line that wraps could not be erased.
      const text = withoutControls(progress.text(Date.now())).slice(0, Math.max(0, (stderr.columns || 80) - 3))
      stderr.write(`${erase}${dim(`${frames[frame++ % frames.length]} ${text}`, stderr)}`)
    }, 100)
    return {
      progress,
      stop: () => {
        if (timer === undefined) return
        clearInterval(timer)
        timer = undefined
        if (shown) stderr.write(erase)
      }
    }
  }),
  (waiting) => Effect.sync(waiting.stop)
)
