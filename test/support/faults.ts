import type { Json } from "./script.js"

/** One way in which a server can fail. `after` counts tokens: 0 is before the first one, headers already sent. */
export type Fault =
  /** Nothing listens: every connection is refused until `setBehaviour` or `restart`. */
  | { readonly kind: "refuse" }
  /** The connection is reset (RST) once the request is read. */
  | { readonly kind: "reset" }
  /** Accepts the request and never answers. */
  | { readonly kind: "hang" }
  /** Sends k tokens, then nothing, the connection staying open. */
  | { readonly kind: "stall"; readonly after?: number }
  /** Sends k tokens, then for ever only what keeps the connection open: comments, or blank lines. */
  | { readonly kind: "keepAlive"; readonly after?: number }
  /** Sends k tokens, then drops the connection. */
  | { readonly kind: "cut"; readonly after?: number; readonly how?: "fin" | "rst" }
  /** Sends k tokens and half of the next line, then drops the connection. */
  | { readonly kind: "cutLine"; readonly after?: number }
  /** Sends everything but the last lines or events (1), and half of the first of those if `torn`, then drops. */
  | { readonly kind: "cutLast"; readonly frames?: number; readonly how?: "fin" | "rst"; readonly torn?: boolean }
  /** Drops the connection after so many bytes of the body. */
  | { readonly kind: "cutByte"; readonly at: number }
  /** Sends k tokens, then ends the body cleanly: no done line, no finish_reason, no [DONE]. */
  | { readonly kind: "silentEnd"; readonly after?: number }
  /** Answers with an HTTP status. The default body is the one that the server would send. */
  | {
      readonly kind: "status"
      readonly code: number
      readonly body?: unknown
      readonly retryAfter?: number | string
      readonly headers?: Readonly<Record<string, string>>
      /** The body never ends: `hang` after its first half, `reset` there. */
      readonly then?: "hang" | "reset"
    }
  /** A proxy's HTML page, with status 200. */
  | { readonly kind: "garbage" }
  /** Sends k tokens, then a line that is not JSON, then goes on as if nothing had been. */
  | { readonly kind: "malformed"; readonly after?: number }
  /** Sends k tokens, then the error that the server reports inside a stream, then ends cleanly. */
  | { readonly kind: "errorLine"; readonly after?: number; readonly message?: string }
  /** The server does not have the model. */
  | { readonly kind: "notFound" }
  /** So many milliseconds between tokens, before the body where there are no tokens. */
  | { readonly kind: "slow"; readonly ms: number }
  /** Each byte of the body is a write of its own. */
  | { readonly kind: "splitUtf8" }
  /** Status 200 and a body of zero bytes. */
  | { readonly kind: "empty" }

/** One fault for every request, one per request number (holes are healthy), or a function of number and body. */
export type FaultPlan = Fault | ReadonlyArray<Fault | undefined> | ((n: number, body: Json) => Fault | undefined)

/**
 * Which endpoints the faults apply to: chat (and generate), the model lists (/api/tags, /v1/models), everything that
 * discovers a server (lists, version, ps, show, health), or all. The request number counts only these endpoints.
 */
export type FaultOn = "chat" | "tags" | "discovery" | "all"

/** The fault that a plan holds for request number n. */
export function faultFor(plan: FaultPlan | undefined, n: number, body: Json): Fault | undefined {
  if (plan === undefined) return undefined
  if (typeof plan === "function") return plan(n, body)
  return "kind" in plan ? plan : plan[n]
}

/**
 * What befalls a whole server at some moment, until it is restored: the requests under way then, and those that come.
 * `at` is where an answer that comes meanwhile breaks, from 0 (before its first frame) to 1 (in its last one); answers
 * under way break at once.
 */
export type Strike =
  /** Every connection is dropped, in use or idle, and new ones are refused. */
  | { readonly kind: "kill"; readonly how: "fin" | "rst" }
  /** Nothing is sent any more, and nothing closed; once restored it goes on where it was. */
  | { readonly kind: "stall" }
  /** Answers are torn in the middle of a line, and their connections dropped. */
  | { readonly kind: "cut"; readonly at: number; readonly how: "fin" | "rst" }
  /** So many milliseconds before every frame. */
  | { readonly kind: "slow"; readonly ms: number }
  /** New requests get this status. */
  | { readonly kind: "status"; readonly code: number; readonly retryAfter?: number }
  /** New requests are told that the model is not there. */
  | { readonly kind: "notFound" }
  /** New requests get a proxy's HTML page with status 200. */
  | { readonly kind: "garbage" }
  /** Answers get a line that is not JSON, and end. */
  | { readonly kind: "malformed"; readonly at: number }
  /** Answers end with the error that the server reports inside a stream. */
  | { readonly kind: "errorLine"; readonly at: number }
  /** Answers end cleanly, but are not complete. */
  | { readonly kind: "silentEnd"; readonly at: number }

/** Where a request was when a strike hit it. */
export type Phase = "connect" | "first token" | "mid-stream" | "last chunk"

/** True when the plan keeps the port closed from the start. */
export const refusesAlways = (plan: FaultPlan | undefined): boolean =>
  plan !== undefined && typeof plan !== "function" && "kind" in plan && plan.kind === "refuse"
