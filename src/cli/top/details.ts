/** All that is known of the chosen server or request, as lines. */
import { notesOf, requestState, serverState, serverWhy, stateWord } from "./rows.js"
import type { TopState } from "./state.js"
import * as Text from "./text.js"
import { chosenRequest, chosenServer, type Ui } from "./ui.js"
import type { Attempt, Model, Request, Server } from "./wire.js"

const clock = (at: number): string => new Date(at).toLocaleTimeString("en-GB")

const modelLine = (model: Model): string => {
  const { first_token_ms: first, in_flight: inFlight, loaded, places, queued, tokens_per_second: speed, why } = model
  const parts = [
    Text.clean(model.model),
    ...(loaded ? ["loaded"] : []),
    ...(model.state === "closed" ? [] : [`${stateWord(model.state)}${why === null ? "" : `: ${Text.clean(why)}`}`]),
    `${inFlight}${places === null ? "" : `/${places}`} in flight`,
    ...(queued === 0 ? [] : [`${queued} queued`]),
    ...(speed === null ? [] : [`${Text.number(speed)} tok/s`]),
    ...(first === null ? [] : [`first token ${Text.time(first)}`])
  ]
  return `  ${parts.join("   ")}`
}

const ofServer = (server: Server): ReadonlyArray<string> => {
  const { models, protocol, rests_until: until, since, version } = server
  const why = Text.clean(serverWhy(server))
  return [
    Text.clean(server.server),
    `  ${serverState(server)}${why === "" ? "" : `: ${why}`}`,
    ...(since === null ? [] : [`  since ${clock(since)}${until === null ? "" : `, tried again at ${clock(until)}`}`]),
    `  ${Text.clean(protocol ?? "protocol not known")}${version === null ? "" : ` ${Text.clean(version)}`}`,
    "",
    `Models: ${models.length}`,
    ...models.map(modelLine)
  ]
}

const attemptLine = (attempt: Attempt): string => {
  const {
    began_ms: began,
    connected_ms: connected,
    ended_ms: ended,
    first_token_ms: first,
    hedge,
    outcome,
    resumes
  } = attempt
  const parts = [
    `${attempt.attempt}.`,
    `${Text.clean(attempt.server)} (${Text.clean(attempt.model)})`,
    `from ${Text.time(began)}`,
    ...(hedge === true ? ["hedge"] : []),
    ...(attempt.loads === true ? ["loads the model"] : []),
    ...(resumes === undefined ? [] : [`resumes (${Text.clean(resumes)})`]),
    ...(connected === undefined ? [] : [`connected ${Text.time(connected)}`]),
    ...(first === undefined ? [] : [`first token ${Text.time(first)}`]),
    ...(ended === undefined ? [] : [`ended ${Text.time(ended)}`]),
    ...(outcome === undefined ? [] : [Text.clean(outcome)]),
    ...(attempt.why === undefined ? [] : [Text.clean(attempt.why)])
  ]
  return `  ${parts.join("   ")}`
}

const ofRequest = (request: Request): ReadonlyArray<string> => {
  const { attempts = [], at, completion_tokens: tokens, decision, duration_ms: duration, key, model, why } = request
  const notes = notesOf(request)
  return [
    `${Text.clean(model ?? "-")}   ${Text.clean(request.route ?? "")}`,
    `  ${requestState(request)}${notes === "" ? "" : `, ${notes}`}`,
    ...(at === undefined
      ? []
      : [`  began at ${clock(at)}${duration === undefined ? "" : `, took ${Text.time(duration)}`}`]),
    `  key ${Text.clean(key ?? "-")}   id ${Text.clean(request.id)}`,
    ...(tokens === undefined ? [] : [`  ${tokens} tokens`]),
    ...(typeof why === "string" ? [`  ${Text.clean(why)}`] : []),
    ...(decision === undefined ? [] : [`  chosen: ${Text.clean(decision.reason)}`]),
    "",
    `Attempts: ${attempts.length}`,
    ...attempts.map(attemptLine)
  ]
}

/** At most `height` lines. */
export const of = (state: TopState, ui: Ui, height: number): ReadonlyArray<string> => {
  const server = ui.table === "servers" ? chosenServer(state, ui) : undefined
  const request = ui.table === "requests" ? chosenRequest(state, ui) : undefined
  const lines =
    server === undefined ? (request === undefined ? ["Nothing is chosen."] : ofRequest(request)) : ofServer(server)
  return lines.length <= height ? lines : [...lines.slice(0, height - 1), `… ${lines.length - height + 1} more`]
}
