import { useState } from "preact/hooks"
import { call } from "../api"
import * as Format from "../format"
import { Badge, Empty, Title } from "../parts/small"
import { Timeline } from "../parts/timeline"
import { fleet, gatewayTime, now, requests, useStore } from "../store"
import type { Request } from "../types"

const marks = ({
  attempts = [],
  cached,
  cached_tokens = 0,
  queued_ms,
  warning
}: Request): ReadonlyArray<readonly [string, string]> => {
  const known = attempts.filter((one) => one !== undefined)
  const all: Array<readonly [string, string]> = []
  if (known.some(({ resumes }) => resumes !== undefined)) all.push(["resumed", "info"])
  else if (known.some(({ outcome }) => outcome === "failure") && known.length > 1) all.push(["failover", "warn"])
  if (known.some(({ hedge }) => hedge)) all.push(["hedged", "info"])
  if (queued_ms !== undefined) all.push(["queued", "warn"])
  if (warning?.includes("session_not_stored")) all.push(["not stored", "warn"])
  if (cached === true) all.push(["from cache", "good"])
  else if (cached_tokens > 0) all.push(["prompt cache", "good"])
  return all
}

const stateOf = ({ attempts = [], client_left, dequeued_ms, error, queued_ms, status }: Request) => {
  if (status !== undefined) {
    if (error === "cancelled") return <Badge tone="warn">cancelled</Badge>
    if (client_left === true) return <Badge tone="warn">client left</Badge>
    return error === null || error === undefined ? <Badge tone="good">done</Badge> : <Badge tone="bad">failed</Badge>
  }
  const last = attempts.at(-1)
  if (queued_ms !== undefined && dequeued_ms === undefined && last === undefined)
    return <Badge tone="warn">queued</Badge>
  if (last?.first_token_ms !== undefined) return <Badge tone="info">streaming</Badge>
  return <Badge tone="info">{last?.connected_ms === undefined ? "connecting" : "waiting"}</Badge>
}

const Decision = ({ request: { decision } }: { readonly request: Request }) => {
  if (decision === undefined) return null
  const listed = (all: typeof decision.candidates) =>
    all.map(({ model, reason, server }) => (
      <li key={`${model}${server}`}>
        <b>{model}</b> at {server}
        {reason === "" ? "" : <span class="dim">: {Format.harmless(reason)}</span>}
      </li>
    ))
  return (
    <div class="decision">
      <p>
        Asked for <b>{Format.harmless(decision.asked)}</b>, answered by <b>{decision.model}</b> at{" "}
        <b>{decision.server}</b>
        {decision.reason === "" ? "" : `: ${Format.harmless(decision.reason)}`}
      </p>
      <div class="two">
        {decision.candidates.length === 0 ? null : (
          <div>
            <h2>Could answer</h2>
            <ol>{listed(decision.candidates)}</ol>
          </div>
        )}
        {decision.excluded.length === 0 ? null : (
          <div>
            <h2>Left out</h2>
            <ul>{listed(decision.excluded)}</ul>
          </div>
        )}
      </div>
    </div>
  )
}

const Row = ({ admin, request }: { readonly request: Request; readonly admin: boolean }) => {
  useStore(now)
  const at = Math.max(request.at, gatewayTime())
  const [open, setOpen] = useState(false)
  const [failed, setFailed] = useState("")
  const running = request.status === undefined
  const cancel = () =>
    call(`/requests/${encodeURIComponent(request.id)}`, { method: "DELETE" }).catch((error: Error) =>
      setFailed(error.message)
    )
  const duration = running ? at - request.at : request.duration_ms
  const failures = (request.attempts ?? []).filter((one) => one?.outcome === "failure")
  return (
    <li class={`card request ${running ? "running" : ""}`}>
      <div class="summary">
        <button type="button" class="expand" aria-expanded={open} onClick={() => setOpen(!open)}>
          {stateOf(request)}
          <b class="model">
            <bdi>{Format.harmless(request.model ?? "no model")}</bdi>
          </b>
          <span class="dim">{request.server ?? request.attempts?.at(-1)?.server ?? ""}</span>
          {marks(request).map(([name, tone]) => (
            <Badge key={name} tone={tone}>
              {name}
            </Badge>
          ))}
          <span class="push" />
          <span class="number">{Format.milliseconds(duration)}</span>
          <span class="dim number wide">
            {request.completion_tokens === undefined
              ? ""
              : `${Format.count(request.prompt_tokens)} → ${Format.count(request.completion_tokens)} tok`}
          </span>
          <span class="dim wide">{request.key ?? ""}</span>
          <span class="dim wide">{Format.clock(request.at)}</span>
        </button>
        {running && admin ? (
          <button
            type="button"
            class="small danger"
            onClick={() => void cancel()}
            aria-label={`Cancel the request for ${request.model ?? "no model"}`}
          >
            Cancel
          </button>
        ) : null}
      </div>
      {request.why === null || request.why === undefined ? null : (
        <p class="trouble">
          {request.why}
          {failures.length === 0 ? "" : ` ${failures.map(({ server, why }) => `${server}: ${why}`).join("; ")}.`}
        </p>
      )}
      {request.warning?.includes("session_not_stored") ? (
        <p class="trouble">Its client has the answer, but the conversation could not be stored.</p>
      ) : null}
      {failed === "" ? null : (
        <p role="alert" class="error">
          {failed}
        </p>
      )}
      {open || running ? <Timeline request={request} at={at} /> : null}
      {open ? (
        <>
          <Decision request={request} />
          <dl class="facts">
            <div>
              <dt>Request</dt>
              <dd>
                <code>{request.request_id}</code>
              </dd>
            </div>
            <div>
              <dt>Endpoint</dt>
              <dd>
                <code>{request.route}</code>
                {request.stream ? " streamed" : ""}
              </dd>
            </div>
            <div>
              <dt>Key</dt>
              <dd>{request.key ?? "none"}</dd>
            </div>
            <div>
              <dt>First token</dt>
              <dd>{Format.milliseconds(request.first_token_ms)}</dd>
            </div>
            <div>
              <dt>Tokens</dt>
              <dd>
                {Format.count(request.prompt_tokens)} prompt ({Format.count(request.cached_tokens)} cached),{" "}
                {Format.count(request.completion_tokens)} answer
              </dd>
            </div>
            {request.status === undefined ? null : (
              <div>
                <dt>Status</dt>
                <dd>
                  {request.status}
                  {request.error ? ` ${request.error}` : ""}
                </dd>
              </div>
            )}
          </dl>
        </>
      ) : null}
    </li>
  )
}

export const Live = () => {
  const all = useStore(requests)
  const known = useStore(fleet)
  const [only, setOnly] = useState("all")
  const [shown, setShown] = useState(40)
  const matching = all.filter((request) =>
    only === "running"
      ? request.status === undefined
      : only === "failed"
        ? request.error !== null && request.error !== undefined
        : only === "eventful"
          ? marks(request).length > 0
          : true
  )
  const running = all.filter(({ status }) => status === undefined).length
  return (
    <>
      <Title name="Live">
        <span class="dim">{running} under way</span>
        <span class="push" />
        <label class="inline">
          Show{" "}
          <select value={only} onChange={(event) => setOnly(event.currentTarget.value)}>
            <option value="all">all requests</option>
            <option value="running">under way</option>
            <option value="failed">failed</option>
            <option value="eventful">with events</option>
          </select>
        </label>
      </Title>
      {matching.length === 0 ? (
        <Empty>
          {all.length === 0
            ? "No request has come since this page was opened. Send one from the playground."
            : "None of the requests match."}
        </Empty>
      ) : (
        <ul class="requests">
          {matching.slice(0, shown).map((request) => (
            <Row key={request.id} request={request} admin={known?.admin === true} />
          ))}
        </ul>
      )}
      {matching.length > shown ? (
        <button type="button" class="quiet" onClick={() => setShown(shown + 40)}>
          Show more
        </button>
      ) : null}
    </>
  )
}
