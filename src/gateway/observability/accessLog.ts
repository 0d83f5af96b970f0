/**
 * The access log: one line per request when it ends. Never contains a prompt, an answer or an API key, and no server
 * address unless addresses may be shown.
 */
import * as Option from "effect/Option"
import type { LogFormat } from "../../config/gateway.js"
import type { RequestContext } from "../http/RequestContext.js"

/** Client-chosen names are clipped. */
const longestName = 200

type Value = string | number | boolean | undefined

const tenths = (milliseconds: number): number => Math.round(milliseconds * 10) / 10

/** The fields in order; `undefined` is omitted. */
const fieldsOf = (
  context: RequestContext,
  status: number,
  duration: number
): ReadonlyArray<readonly [string, Value]> => {
  const { record: account, caller, traceContext, id, disconnected: left, request, route, trace } = context
  const parent = trace === undefined ? undefined : Option.getOrUndefined(trace.parent)
  const { attempts, cached, completionTokens, error, firstToken, model, promptTokens, server, streamed, warning } =
    account
  return [
    ["time", new Date().toISOString()],
    ["request_id", id],
    ["method", request.method],
    ["route", route],
    ["status", status],
    ["duration_ms", tenths(duration)],
    ["ttft_ms", firstToken === undefined ? undefined : tenths(firstToken)],
    ["model", model?.slice(0, longestName)],
    ["server", server],
    ["attempts", attempts === 0 ? undefined : attempts],
    ["stream", streamed ? true : undefined],
    ["cached", cached ? true : undefined],
    ["prompt_tokens", promptTokens === 0 ? undefined : promptTokens],
    ["completion_tokens", completionTokens === 0 ? undefined : completionTokens],
    ["key", caller],
    ["error", error],
    ["warning", warning],
    ["client_left", left ? true : undefined],
    ["trace_id", parent?.traceId ?? traceContext?.traceparent.slice(3, 35)]
  ]
}

/** Escapes characters that JSON allows but that a terminal or a line reader would interpret. */
const harmless = (json: string): string =>
  json.replace(/[\x7f-\x9f\u2028-\u202e\u2066-\u2069]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`)

/** logfmt: quoted only where necessary. */
const word = (value: Value): string =>
  typeof value === "string" && !/^[\w.:/+@{}-]+$/.test(value) ? harmless(JSON.stringify(value)) : String(value)

/** Buffers lines briefly: many requests that end together are written at once. */
export class AccessLog {
  private pending = ""

  constructor(private readonly write: (text: string) => void) {}

  record(form: LogFormat, context: RequestContext, status: number, duration: number): void {
    if (form === "off") return
    const fields = fieldsOf(context, status, duration)
    if (this.pending === "") setImmediate(() => this.flush())
    this.pending +=
      form === "json"
        ? `${harmless(JSON.stringify(Object.fromEntries(fields)))}\n`
        : `${fields.flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${word(value)}`])).join(" ")}\n`
  }

  /** Writes what is still buffered. */
  flush(): void {
    const { pending } = this
    this.pending = ""
    if (pending !== "") this.write(pending)
  }
}

/** Lines on standard error. */
export const toStandardError = (): AccessLog => new AccessLog((text) => process.stderr.write(text))
