import * as Format from "../format"
import type { Attempt, Request } from "../types"

interface Piece {
  readonly kind: "queue" | "connect" | "prefill" | "stream"
  readonly from: number
  readonly to: number
}

const pieces = (attempt: Attempt, end: number): ReadonlyArray<Piece> => {
  const { began_ms, connected_ms, ended_ms = end, first_token_ms } = attempt
  const connected = connected_ms ?? ended_ms
  const first = first_token_ms ?? ended_ms
  return [
    { kind: "connect", from: began_ms, to: connected },
    { kind: "prefill", from: connected, to: first },
    { kind: "stream", from: first, to: ended_ms }
  ]
}

const names = { queue: "queued", connect: "connect", prefill: "wait for the first token", stream: "stream" }

const outcome = ({ hedge, loads, outcome, resumes, why }: Attempt): string => {
  const parts = [
    hedge ? "hedge: the first server was late" : "",
    loads ? "loads the model" : "",
    resumes === undefined ? "" : `resumes the broken answer (${resumes})`,
    outcome === "failure"
      ? `failed: ${why ?? "for an unknown reason"}`
      : outcome === undefined
        ? "under way"
        : outcome === "overtaken"
          ? "overtaken by the other server"
          : outcome === "success"
            ? "answered"
            : outcome
  ]
  return parts.filter((part) => part !== "").join(" · ")
}

/** What a request did, and when. */
export const Timeline = ({ at, request }: { readonly request: Request; readonly at: number }) => {
  const end = Math.max(
    1,
    request.duration_ms !== undefined && request.status !== undefined ? request.duration_ms : at - request.at
  )
  const attempts = (request.attempts ?? []).filter((one) => one !== undefined)
  const place = (piece: Piece) => ({
    left: `${(piece.from / end) * 100}%`,
    width: `${Math.max(0.4, ((piece.to - piece.from) / end) * 100)}%`
  })
  const queue: ReadonlyArray<Piece> =
    request.queued_ms === undefined ? [] : [{ kind: "queue", from: request.queued_ms, to: request.dequeued_ms ?? end }]
  const row = (label: string, note: string, all: ReadonlyArray<Piece>, failed: boolean) => (
    <li key={label + note}>
      <div class="lane-label">
        <b>{label}</b> <span class={failed ? "bad-text" : "dim"}>{note}</span>
      </div>
      <div class={`lane ${failed ? "failed" : ""}`}>
        {all
          .filter(({ from, to }) => to > from)
          .map((piece) => (
            <i
              key={piece.kind}
              class={piece.kind}
              style={place(piece)}
              title={`${names[piece.kind]}: ${Format.milliseconds(piece.to - piece.from)}`}
            />
          ))}
      </div>
    </li>
  )
  return (
    <div class="timeline">
      <ol>
        {queue.length === 0
          ? null
          : row("queue", Format.milliseconds((queue[0]?.to ?? 0) - (queue[0]?.from ?? 0)), queue, false)}
        {attempts.map((attempt) =>
          row(
            `${attempt.attempt}. ${attempt.server}`,
            outcome(attempt),
            pieces(attempt, end),
            attempt.outcome === "failure"
          )
        )}
      </ol>
      <p class="legend" aria-hidden="true">
        <span class="key queue">queued</span>
        <span class="key connect">connect</span>
        <span class="key prefill">first token</span>
        <span class="key stream">stream</span>
        <span class="push" />
        {Format.milliseconds(end)}
      </p>
    </div>
  )
}
