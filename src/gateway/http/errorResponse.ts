/**
 * Errors in the format of each API: never with a stack trace, an API key, or (unless they are to be shown) addresses.
 */
import { type Attempt, type Excluded, isChatError, type Unreachable } from "../../Errors.js"
import { waitFor } from "../../errors/advice.js"

/**
 * `status` is the HTTP status; `type`, `code` and `param` are OpenAI's; `retryAfter` is in milliseconds; `attempts` are
 * those of a call that failed on every server; `unreachable` are the servers that could not be asked which models they
 * have; `excluded` are the models on servers that were not asked, and why; `requestId` is the name of the request.
 */
export interface ErrorResponse {
  readonly status: number
  readonly message: string
  readonly type: string
  readonly code: string | null
  readonly param: string | null
  readonly retryAfter?: number | undefined
  readonly attempts?: ReadonlyArray<object> | undefined
  readonly unreachable?: ReadonlyArray<object> | undefined
  readonly excluded?: ReadonlyArray<object> | undefined
  readonly requestId?: string | undefined
}

const types: { readonly [status: number]: string } = {
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  408: "timeout_error",
  429: "rate_limit_error"
}

/** Client input quoted in an error message is clipped. */
const clip = (text: string, longest: number): string => (text.length > longest ? `${text.slice(0, longest)}…` : text)
const longestMessage = 4_000
const longestParam = 200

export const make = (
  status: number,
  message: string,
  code: string | null = null,
  param: string | null = null,
  retryAfter?: number
): ErrorResponse => ({
  status,
  message: clip(message, longestMessage),
  type: types[status] ?? (status >= 500 ? "server_error" : "invalid_request_error"),
  code,
  param,
  retryAfter
})

/** A request that is rejected. Thrown while it is read, caught where it is answered. */
export class RequestRejected extends Error {
  override readonly name = "RequestRejected"
  constructor(readonly response: ErrorResponse) {
    super(response.message)
  }
}

/** Rejects a request because of one of its fields. */
export const reject = (param: string, reason: string, code: string | null = null): never => {
  const at = clip(param, longestParam)
  throw new RequestRejected(make(400, `'${at}' ${reason}`, code, at))
}

/**
 * A client's name for an option, in an error about it; `undefined` if the option is none of the client's. `byServer`: a
 * server names it, which may also be sent what the client did not say.
 */
export type NameOf = (option: string, byServer: boolean) => string | undefined

const usualNames: { readonly [option: string]: string } = {
  toolChoice: "tool_choice",
  keepAlive: "keep_alive",
  logitBias: "logit_bias",
  format: "response_format",
  maxTokens: "max_tokens",
  topP: "top_p",
  topK: "top_k",
  minP: "min_p",
  frequencyPenalty: "frequency_penalty",
  presencePenalty: "presence_penalty",
  repeatPenalty: "repeat_penalty"
}

/** The name that most APIs have. */
export const usualName = (option: string): string => usualNames[option] ?? option.replace(/^extra\./, "")

/** How servers are named to clients. */
export interface Labels {
  readonly expose: boolean
  readonly label: (url: string) => string
  /**
   * Redacts the key of a server, and addresses and files unless they are to be shown, from words of a server or the
   * operating system.
   */
  readonly redact: (text: string) => string
  /** Redacts an error message before it is sent. */
  readonly redactMessage: (text: string) => string
}

const describeAttempts = (attempts: ReadonlyArray<Attempt>, labels: Labels): ReadonlyArray<object> =>
  attempts.map(({ elapsed, message, model, phase, reason, server, status }) => ({
    ...(model === undefined ? {} : { model }),
    server: labels.label(server),
    phase,
    reason,
    elapsed_ms: Math.round(elapsed),
    ...(status === undefined ? {} : { status }),
    ...(labels.expose ? { message: labels.redact(message) } : {})
  }))

/** An error lists at most this many models that were left out. */
const maxExcluded = 100

const withExcluded = (
  errorResponse: ErrorResponse,
  excluded: ReadonlyArray<Excluded> = [],
  labels: Labels
): ErrorResponse =>
  excluded.length === 0
    ? errorResponse
    : {
        ...errorResponse,
        excluded: excluded.slice(0, maxExcluded).map(({ model, reason, server }) => ({
          model,
          ...(server === "" ? {} : { server: labels.label(server) }),
          reason: labels.redact(reason)
        }))
      }

const reasons = (attempts: ReadonlyArray<Attempt>, labels: Labels): string => {
  const times = new Map<string, number>()
  for (const { model, reason, server } of attempts) {
    const words = `${model === undefined ? "" : `${model} at `}${labels.label(server)}: ${reason}`
    times.set(words, (times.get(words) ?? 0) + 1)
  }
  return Array.from(times, ([words, n]) => (n === 1 ? words : `${words} (${n} times)`)).join("; ")
}

/** Adds the servers whose models are unknown because they were unreachable. */
export const withUnreachable = (
  errorResponse: ErrorResponse,
  unreachable: ReadonlyArray<Unreachable> | undefined,
  labels: Labels
): ErrorResponse => {
  if (unreachable === undefined || unreachable.length === 0) return errorResponse
  const listed = unreachable.map(({ reason, url }) => ({ server: labels.label(url), reason: labels.redact(reason) }))
  const words = listed.map(({ reason, server }) => `${server} (${reason})`).join(", ")
  return {
    ...errorResponse,
    message: clip(`${errorResponse.message} Could not be asked which models they have: ${words}.`, longestMessage),
    unreachable: listed
  }
}

/** When the first server may be retried; one second if no server reported it. */
const shortestWait = (attempts: ReadonlyArray<Attempt>): number =>
  Math.min(...attempts.map(({ retryAfter = 1_000 }) => retryAfter))

const isTimeout = ({ reason }: Attempt): boolean =>
  reason === "connect-timeout" || reason === "first-token-timeout" || reason === "idle-timeout"

const bug = (): ErrorResponse => make(500, "The gateway failed. This is a bug; its log says more.", "internal_error")

/** Converts a failure of the library. Anything else is a bug, and reported only as an internal error. */
export const fromError = (error: unknown, labels: Labels, nameOf: NameOf = usualName): ErrorResponse => {
  if (error instanceof RequestRejected) return error.response
  if (!isChatError(error)) return bug()
  switch (error._tag) {
    case "InvalidRequest": {
      const { code, field, reason, server } = error
      if (server !== undefined) {
        // Clients that shorten a conversation and retry look for these words in APIs without error codes.
        const words =
          code === undefined || /prompt is too long/i.test(reason) ? reason : `prompt is too long: ${reason}`
        const param = field === "request" ? undefined : nameOf(field, true)
        return make(400, labels.redact(words), code ?? null, param)
      }
      const param = nameOf(field, false) ?? field
      return make(400, `'${param}': ${labels.redact(reason)}`, null, param)
    }
    case "ModelNotFound": {
      const { model, suggestions, unreachable } = error
      const near = suggestions.length === 0 ? "" : ` Did you mean ${suggestions.join(", ")}?`
      const message = `The model '${model}' does not exist.${near} GET /v1/models lists those that do.`
      return withUnreachable(make(404, message, "model_not_found", "model"), unreachable, labels)
    }
    case "NoServers": {
      const { available, model, otherTags, servers, unreachable } = error
      if (servers.length === 0) {
        return make(404, `The model '${model}' cannot be served: no server is known.`, "model_not_found", "model")
      }
      const near = otherTags.length === 0 ? "" : ` Did you mean ${otherTags.join(", ")}?`
      const others = available.length === 0 ? "" : ` There are: ${available.join(", ")}.`
      const errorResponse = make(404, `No server has the model '${model}'.${near}${others}`, "model_not_found", "model")
      return withUnreachable(errorResponse, unreachable, labels)
    }
    case "NoSuitableModel": {
      const { abilities, excluded, unanswered, unreachable } = error
      const reason = abilities.length === 0 ? "can answer" : `is known to ${abilities.join(" and ")}`
      const errorResponse = unanswered
        ? make(503, "No server answers.", "no_server_answers", null, 5_000)
        : make(404, `No model on the servers ${reason}.`, "model_not_found", "model")
      return withExcluded(withUnreachable(errorResponse, unreachable, labels), excluded, labels)
    }
    case "NoLocalServer":
      return make(
        403,
        `The request is private, and no local server has the model '${error.model}'.`,
        "no_local_server",
        "model"
      )
    case "RemoteTokensExhausted": {
      const { limit, model, resetsAt } = error
      const message = `The ceiling of ${limit} tokens per day on remote servers is reached, and no local server has the model '${model}'. The count begins again at ${new Date(resetsAt).toISOString()}.`
      const wait = Math.max(1_000, resetsAt - Date.now())
      return make(429, message, "remote_tokens_exhausted", null, wait)
    }
    case "RemoteBudgetExhausted": {
      const { currency, limit, model, period, resetsAt } = error
      const message = `The budget of ${limit} ${currency} per ${period} for remote servers is spent, and no local server has the model '${model}'. The count begins again at ${new Date(resetsAt).toISOString()}.`
      const wait = Math.max(1_000, resetsAt - Date.now())
      return make(429, message, "remote_budget_exhausted", null, wait)
    }
    case "ModelPriceUnknown": {
      const message = `Remote servers have a budget, the model '${error.model}' has no price, and no local server has it.`
      return make(403, message, "model_price_unknown", "model")
    }
    case "AllServersFailed": {
      const { attempts, excluded, model, unreachable } = error
      const n = attempts.length
      const message = `All server attempts failed for model '${model}' (${n} ${n === 1 ? "attempt" : "attempts"}: ${reasons(attempts, labels)}).`
      const all = (test: (attempt: Attempt) => boolean) => n > 0 && attempts.every(test)
      const errorResponse = all((a) => a.reason === "rate-limited")
        ? make(429, message, "rate_limit_exceeded", null, shortestWait(attempts))
        : all((a) => a.reason === "busy" || a.reason === "rate-limited")
          ? make(503, message, "servers_busy", null, shortestWait(attempts))
          : all((a) => a.reason === "loading")
            ? make(503, message, "model_loading", null, shortestWait(attempts))
            : all(isTimeout)
              ? make(504, message, "servers_timed_out")
              : make(502, message, "all_servers_failed")
      const listed = { ...errorResponse, attempts: describeAttempts(attempts, labels) }
      return withExcluded(withUnreachable(listed, unreachable, labels), excluded, labels)
    }
    case "StreamInterrupted": {
      const { attempts, model } = error
      const message = `The answer of '${model}' broke and no server could continue it (${reasons(attempts, labels)}). Ask again.`
      return { ...make(502, message, "stream_interrupted"), attempts: describeAttempts(attempts, labels) }
    }
    case "DeadlineExceeded": {
      const { attempts, deadline, model } = error
      const errorResponse = make(504, `No complete answer from '${model}' within ${deadline} ms.`, "deadline_exceeded")
      return { ...errorResponse, attempts: describeAttempts(attempts, labels) }
    }
    case "Overloaded": {
      const { model, queued, retryAfter } = error
      const message = `All servers of '${model}' are busy and ${queued} requests are waiting already.`
      return make(503, message, "overloaded", null, retryAfter)
    }
    case "SchemaMismatch": {
      const { issues, model } = error
      const list = issues
        .slice(0, 5)
        .map(({ message, path }) => (path === "" ? message : `${path}: ${message}`))
        .join("; ")
      return make(422, `The reply of '${model}' does not fit the format that was asked for: ${list}`, "schema_mismatch")
    }
    case "SessionNotFound": {
      const { id } = error
      return make(
        404,
        `There is no session '${clip(id, longestParam)}'. POST /v1/sessions creates one.`,
        "session_not_found",
        "session"
      )
    }
    case "SessionsUnavailable":
      return make(503, labels.redact(error.message), "sessions_unavailable", null, waitFor(error.reason))
    case "EngineUnavailable":
      return make(503, labels.redact(error.message), "engine_unavailable")
    case "EngineFailed":
      return make(503, labels.redact(error.message), "engine_failed", "model")
    case "EngineNotInstalled":
      return make(503, labels.redact(error.message), "engine_not_installed")
    case "SupervisorUnavailable":
      return make(503, labels.redact(error.message), "supervisor_unavailable", null, 1_000)
    case "ModelStoreUnavailable":
      return make(503, labels.redact(error.message), "model_store_unavailable")
    case "InsufficientDiskSpace":
      return make(507, labels.redact(error.message), "insufficient_disk_space")
    case "InvalidModelFile":
      return make(400, labels.redact(error.message), "invalid_model_file")
    case "InvalidModelReference":
      return make(400, error.message, "invalid_model", "model")
    case "ModelNameTaken":
      return make(409, labels.redact(error.message), "model_exists", "model")
    case "ModelNotStored":
      return make(404, error.message, "model_not_found", "model")
    case "ModelDownloadFailed":
      return make(502, labels.redact(error.message), "download_failed")
    case "Closed":
      return make(503, "The gateway is shutting down.", "shutting_down", null, 1_000)
    default:
      return bug()
  }
}

/** In OpenAI's format. */
export const openAI = ({
  attempts,
  code,
  excluded,
  message,
  param,
  requestId,
  type,
  unreachable
}: ErrorResponse): object => ({
  error: {
    message,
    type,
    param,
    code,
    ...(attempts === undefined ? {} : { attempts }),
    ...(unreachable === undefined ? {} : { unreachable }),
    ...(excluded === undefined ? {} : { excluded }),
    ...(requestId === undefined ? {} : { request_id: requestId })
  }
})

const anthropicTypes: { readonly [status: number]: string } = {
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  413: "request_too_large",
  429: "rate_limit_error",
  504: "timeout_error",
  529: "overloaded_error"
}

/** Anthropic has its own status for overloaded servers. */
export const anthropicStatus = ({ code, status }: ErrorResponse): number =>
  code === "overloaded" || code === "servers_busy" ? 529 : status

/** In Anthropic's format. */
export const anthropic = (errorResponse: ErrorResponse): object => {
  const { attempts, code, excluded, message, requestId, unreachable } = errorResponse
  const status = anthropicStatus(errorResponse)
  return {
    type: "error",
    error: {
      type: anthropicTypes[status] ?? (status >= 500 ? "api_error" : "invalid_request_error"),
      message,
      ...(code === null ? {} : { details: { error_code: code } }),
      ...(attempts === undefined ? {} : { attempts }),
      ...(unreachable === undefined ? {} : { unreachable }),
      ...(excluded === undefined ? {} : { excluded })
    },
    request_id: requestId ?? null
  }
}

/** In Ollama's format. */
export const ollama = ({ message, requestId }: ErrorResponse): object =>
  requestId === undefined ? { error: message } : { error: message, request_id: requestId }
