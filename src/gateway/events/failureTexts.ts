/** Failures in words that hold nothing of what a client or a server said. */
import type { FailureReason, Phase } from "../../Errors.js"

const reasons: { readonly [R in FailureReason | "rest"]: string } = {
  rest: "an administrator lets it rest",
  refused: "it refuses connections: nothing listens there",
  dns: "its name cannot be resolved",
  reset: "it reset the connection",
  tls: "its certificate was not accepted",
  network: "it cannot be reached",
  blocked: "this machine or its network blocks the connection",
  "connect-timeout": "no connection within the time limit",
  "first-token-timeout": "no first token within the time limit",
  "idle-timeout": "it stopped in the middle of its answer",
  "server-error": "it answered with an error",
  malformed: "its answer could not be read",
  cut: "the connection broke before the end of the answer",
  "rate-limited": "it allows no more requests at the moment",
  busy: "it is busy",
  "model-not-found": "it does not have the model",
  unauthorized: "it rejects the API key",
  rejected: "it rejects the request",
  "invalid-request": "it says that the request is invalid",
  "context-length": "the conversation is too long for the model",
  "model-failed": "it cannot run the model",
  loading: "it is still loading the model",
  "bad-output": "what the model wrote could not be used",
  unsupported: "it does not support an option of the request",
  diverged: "it would have continued the answer differently",
  engine: "the engine in this process failed",
  asleep: "its machine was woken, and did not come in time",
  deadline: "the request's deadline passed",
  "remote-limit": "the daily limit of tokens on remote servers is reached"
}

/** Why an attempt failed, of its server. */
export const ofFailure = (reason: FailureReason | "rest"): string => reasons[reason]

const codes: { readonly [code: string]: string } = {
  model_not_found: "No server has the model.",
  no_server_answers: "No server answers.",
  no_local_server: "The request is private, and no local server has the model.",
  remote_tokens_exhausted: "The daily limit of tokens on remote servers is reached.",
  remote_budget_exhausted: "The budget of remote servers is spent.",
  model_price_unknown: "The model has no price, and remote servers have a budget.",
  all_servers_failed: "Every server that was asked failed.",
  servers_busy: "All servers are busy.",
  servers_timed_out: "No server answered in time.",
  stream_interrupted: "The answer broke, and no server could continue it.",
  deadline_exceeded: "The deadline passed before the answer was complete.",
  overloaded: "All servers are busy, and too many requests wait already.",
  schema_mismatch: "The answer does not match the requested format.",
  session_not_found: "There is no such session.",
  sessions_unavailable: "The sessions cannot be reached.",
  responses_unavailable: "The stored responses cannot be reached.",
  limits_unavailable: "The limits of the key cannot be looked up.",
  engine_unavailable: "The engine in this process cannot run.",
  shutting_down: "The gateway is stopping.",
  internal_error: "The gateway failed; its log says more.",
  rate_limit_exceeded: "The limit of requests or tokens is reached.",
  client_too_slow: "The client read too slowly.",
  client_not_reading: "The client stopped reading.",
  cancelled: "An administrator cancelled it.",
  not_admin: "It needs a key with administrator rights.",
  context_length_exceeded: "The conversation is too long for the model."
}

/** Why a request failed, by its error code and HTTP status. */
export const ofError = (code: string, status: number): string => {
  const known = codes[code]
  if (known !== undefined) return known
  if (status === 429) return "The limit of requests or tokens is reached."
  if (status >= 400 && status < 500) return "The request is not valid."
  return "It failed."
}

const phases: { readonly [P in Phase]: string } = {
  connect: "connecting",
  "first-token": "waiting",
  stream: "streaming"
}

/** What an attempt was doing. */
export const ofPhase = (phase: Phase): string => phases[phase]
