/** The rows of the two tables, in words, and what they are sorted and filtered by. */
import type { Column, Style } from "./columns.js"
import type { TopState } from "./state.js"
import * as Text from "./text.js"
import type { Attempt, Request, Server } from "./wire.js"

export type TableName = "servers" | "requests"

const words: { readonly [state: string]: string } = { closed: "up", "half-open": "on trial", open: "resting" }

/** The state of a circuit breaker, in words. */
export const stateWord = (state: string): string => words[state] ?? Text.clean(state)

/** The state of a server in words. */
export const serverState = ({ draining, reachable, state }: Server): string => {
  if (draining) return "draining"
  if (!reachable) return "down"
  return stateWord(state)
}

const stateStyle = (server: Server): Style | undefined => {
  const state = serverState(server)
  return state === "up" ? "green" : state === "down" ? "red" : "yellow"
}

/** Why a server is not simply up. */
export const serverWhy = ({ models, problem, reachable, why }: Server): string => {
  if (!reachable && problem !== null) return problem
  if (why !== null) return why
  const resting = models.find(({ state, why }) => state !== "closed" && why !== null)
  return resting === undefined ? "" : `${resting.model}: ${resting.why}`
}

export const loadedOf = ({ models }: Server): string => {
  const loaded = models.filter((model) => model.loaded).map(({ model }) => model)
  return loaded.length === 0 ? "-" : loaded.join(", ")
}

const ofPlaces = (inFlight: number, places: number | null): string =>
  places === null ? String(inFlight) : `${inFlight}/${places}`

export const serverColumns = (state: TopState): ReadonlyArray<Column<Server>> => [
  { title: "Server", rank: 0, min: 12, max: 60, cell: ({ server }) => server },
  { title: "State", rank: 1, min: 8, max: 8, cell: serverState, style: stateStyle },
  {
    title: "In flight",
    rank: 2,
    min: 9,
    max: 9,
    right: true,
    cell: ({ in_flight, places }) => ofPlaces(in_flight, places)
  },
  { title: "Queue", rank: 3, min: 5, max: 5, right: true, cell: ({ queued }) => String(queued) },
  {
    title: "tok/s",
    rank: 4,
    min: 6,
    max: 6,
    right: true,
    cell: ({ tokens_per_second: speed }) => Text.number(speed)
  },
  {
    title: "1st token",
    rank: 5,
    min: 9,
    max: 9,
    right: true,
    cell: ({ first_token_ms: first }) => Text.time(first)
  },
  {
    title: "Load",
    rank: 7,
    min: 10,
    max: 30,
    cell: ({ places, server }, columns) => Text.sparkline(state.loads.get(server) ?? [], columns, places ?? 1),
    style: () => "dim"
  },
  { title: "Why", rank: 6, min: 12, max: 70, cell: serverWhy, style: () => "yellow" },
  { title: "Protocol", rank: 8, min: 9, max: 9, cell: ({ protocol }) => protocol ?? "-" },
  { title: "Loaded", rank: 9, min: 10, max: 60, cell: loadedOf },
  { title: "Version", rank: 10, min: 7, max: 12, cell: ({ version }) => version ?? "-" }
]

/** The latest attempt that goes on, else the latest. */
export const currentAttempt = ({ attempts = [] }: Request): Attempt | undefined =>
  attempts.findLast(({ outcome }) => outcome === undefined) ?? attempts.at(-1)

/** The state of a request in one word. */
export const requestState = (request: Request): string => {
  const { client_left: left, dequeued_ms: dequeued, error, queued_ms: queued, status } = request
  if (status !== undefined) {
    if (error === "cancelled") return "cancelled"
    if (typeof error === "string" || status >= 400) return left === true ? "left" : "failed"
    return left === true ? "left" : "done"
  }
  const attempt = currentAttempt(request)
  if (queued !== undefined && dequeued === undefined && attempt?.outcome !== undefined) return "queued"
  if (attempt === undefined) return queued === undefined || dequeued !== undefined ? "begins" : "queued"
  if (attempt.first_token_ms !== undefined) return "answering"
  if (attempt.connected_ms === undefined) return "connecting"
  return attempt.loads === true ? "loading" : "waiting"
}

const requestStyle = (request: Request): Style | undefined => {
  const state = requestState(request)
  if (request.status === undefined) return state === "answering" ? "green" : "yellow"
  return state === "failed" ? "red" : "dim"
}

/** What is not ordinary about a request. */
export const notesOf = ({ attempts = [], cached, tries }: Request): string => {
  const notes: Array<string> = []
  if (cached === true) notes.push("cached")
  if (attempts.some(({ resumes }) => resumes !== undefined)) notes.push("resumed")
  if (attempts.some(({ hedge }) => hedge === true)) notes.push("hedged")
  const count = Math.max(attempts.filter(({ hedge }) => hedge !== true).length, tries ?? 0)
  if (count > 1 && !notes.includes("resumed")) notes.push(`${count} tries`)
  return notes.join(", ")
}

const serverOf = (request: Request): string =>
  request.status === undefined ? (currentAttempt(request)?.server ?? "-") : (request.server ?? "-")

const speedOf = ({ attempts = [] }: Request): number | undefined =>
  attempts.findLast(({ tokens_per_second: speed }) => speed !== undefined)?.tokens_per_second

const firstTokenOf = ({ attempts = [], first_token_ms: first }: Request): number | null | undefined =>
  first ?? attempts.find(({ first_token_ms: at }) => at !== undefined)?.first_token_ms

const durationOf = (request: Request, now: number): number =>
  request.status === undefined && request.at !== undefined ? Math.max(0, now - request.at) : (request.duration_ms ?? 0)

export const requestColumns = (state: TopState): ReadonlyArray<Column<Request>> => [
  { title: "Model", rank: 0, min: 10, max: 40, cell: ({ model }) => model ?? "-" },
  { title: "State", rank: 1, min: 10, max: 10, cell: requestState, style: requestStyle },
  { title: "Server", rank: 2, min: 8, max: 40, cell: serverOf },
  {
    title: "Time",
    rank: 3,
    min: 6,
    max: 8,
    right: true,
    cell: (request) => Text.time(durationOf(request, state.now()))
  },
  { title: "Notes", rank: 4, min: 7, max: 24, cell: notesOf, style: () => "yellow" },
  {
    title: "Tokens",
    rank: 5,
    min: 6,
    max: 6,
    right: true,
    cell: ({ completion_tokens: tokens }) => Text.number(tokens)
  },
  { title: "Key", rank: 6, min: 6, max: 24, cell: ({ key }) => key ?? "-" },
  { title: "1st token", rank: 7, min: 9, max: 9, right: true, cell: (request) => Text.time(firstTokenOf(request)) },
  { title: "tok/s", rank: 8, min: 6, max: 6, right: true, cell: (request) => Text.number(speedOf(request)) },
  { title: "Why", rank: 9, min: 10, max: 60, cell: ({ why }) => why ?? "", style: () => "red" },
  { title: "Route", rank: 10, min: 8, max: 28, cell: ({ route }) => route ?? "-" }
]

// =============================================================================
// Order and choice
// =============================================================================

interface Order<Row> {
  readonly name: string
  readonly compare: (a: Row, b: Row) => number
}

const byText =
  <Row>(of: (row: Row) => string) =>
  (a: Row, b: Row): number =>
    of(a).localeCompare(of(b), "en")

/** The highest first; what is not known comes last. */
const byNumber =
  <Row>(of: (row: Row) => number | null | undefined, sign = -1) =>
  (a: Row, b: Row): number => {
    const [one, two] = [of(a) ?? undefined, of(b) ?? undefined]
    if (one === undefined || two === undefined) return Number(one === undefined) - Number(two === undefined)
    return sign * (one - two)
  }

const urgency = ["down", "resting", "draining", "on trial", "up"]

/** The first one is the order of the configuration. */
export const serverOrders: ReadonlyArray<Order<Server>> = [
  { name: "configured", compare: () => 0 },
  { name: "state", compare: byNumber((server) => urgency.indexOf(serverState(server)), 1) },
  { name: "in flight", compare: byNumber(({ in_flight }) => in_flight) },
  { name: "queue", compare: byNumber(({ queued }) => queued) },
  { name: "tok/s", compare: byNumber(({ tokens_per_second: speed }) => speed) },
  { name: "1st token", compare: byNumber(({ first_token_ms: first }) => first, 1) }
]

export const requestOrders = (state: TopState): ReadonlyArray<Order<Request>> => [
  { name: "latest", compare: () => 0 },
  { name: "time", compare: byNumber((request) => durationOf(request, state.now())) },
  { name: "tokens", compare: byNumber(({ completion_tokens: tokens }) => tokens) },
  { name: "model", compare: byText(({ model }) => model ?? "") },
  { name: "server", compare: byText(serverOf) },
  { name: "key", compare: byText(({ key }) => key ?? "") }
]

const contains = (words: ReadonlyArray<string>, filter: string): boolean => {
  const all = Text.clean(words.join(" ")).toLowerCase()
  return filter
    .toLowerCase()
    .split(/\s+/)
    .every((word) => all.includes(word))
}

/** The servers to show. */
export const serverRows = (state: TopState, filter: string, order: number): ReadonlyArray<Server> => {
  const all = state.fleet?.servers ?? []
  const shown =
    filter === ""
      ? [...all]
      : all.filter((one) =>
          contains([one.server, serverState(one), one.protocol ?? "", ...one.models.map(({ model }) => model)], filter)
        )
  const { compare } = serverOrders[order] ?? { compare: () => 0 }
  return shown.sort(compare)
}

/** The requests to show: those under way first. */
export const requestRows = (state: TopState, filter: string, order: number): ReadonlyArray<Request> => {
  const shown = [...state.requests.values()].reverse()
  const chosen =
    filter === ""
      ? shown
      : shown.filter((one) =>
          contains([one.model ?? "", requestState(one), serverOf(one), one.key ?? "", notesOf(one)], filter)
        )
  const { compare } = requestOrders(state)[order] ?? { compare: () => 0 }
  return chosen.sort((a, b) => Number(a.status !== undefined) - Number(b.status !== undefined) || compare(a, b))
}
