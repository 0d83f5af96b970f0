/** What the page knows of the gateway: read once, and kept up to date by its events. All lists are bounded. */
import { useEffect, useState } from "preact/hooks"
import { ApiError, eventsAt, get } from "./api"
import type { Download, Fleet, FleetEvent, Model, Request, RequestEvent, Session } from "./types"

/** A value that screens show; they are notified once per frame. */
export class Store<A> {
  private readonly listeners = new Set<() => void>()
  private planned = false

  constructor(private value: A) {}

  get(): A {
    return this.value
  }
  set(value: A): void {
    this.value = value
    if (this.planned) return
    this.planned = true
    requestAnimationFrame(() => {
      this.planned = false
      for (const listener of this.listeners) listener()
    })
  }
  subscribe(listener: () => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }
}

export const useStore = <A>(store: Store<A>): A => {
  const [value, set] = useState(store.get())
  useEffect(() => {
    set(() => store.get())
    return store.subscribe(() => set(() => store.get()))
  }, [store])
  return value
}

/** The time, once a second. */
export const now = new Store(Date.now())

/** The identity that the browser is signed in with. */
export const session = new Store<Session | undefined>(undefined)

export const fleet = new Store<Fleet | undefined>(undefined)
export const problem = new Store<{ readonly status: number; readonly message: string } | undefined>(undefined)
export const connected = new Store(false)
export const requests = new Store<ReadonlyArray<Request>>([])
export const downloads = new Store<ReadonlyArray<Download>>([])

/** One point a second. */
export const maxPoints = 300
export interface Point {
  readonly at: number
  readonly inFlight: number
  readonly queued: number
  readonly tokens: number
}
export const points = new Store<ReadonlyArray<Point>>([])

/** The requests in flight of each server. */
export const loads = new Store<ReadonlyMap<string, ReadonlyArray<number>>>(new Map())

const maxRequests = 200
const maxDownloads = 20
const maxLoad = 60

const merged = (before: ReadonlyArray<Model>, changed: ReadonlyArray<Model>): ReadonlyArray<Model> => {
  const names = new Map(changed.map((model) => [model.model, model]))
  const all = before.map((model) => names.get(model.model) ?? model)
  for (const model of changed) if (!before.some((one) => one.model === model.model)) all.push(model)
  return all.slice(0, 200)
}

/** `at` is when the gateway looked; events come later than that. */
const onServer = ({ at, ...changed }: FleetEvent): void => {
  const before = fleet.get()
  // What has been read since holds: a button that comes back for a moment would be hit instead of another.
  if (before === undefined || at < before.at) return
  const servers = before.servers.map((server) =>
    server.server === changed.server ? { ...changed, models: merged(server.models, changed.models) } : server
  )
  const inFlight = servers.reduce((sum, server) => sum + server.in_flight, 0)
  fleet.set({ ...before, servers, in_flight: inFlight })
}

/** Tokens of answers that ended since the last point. */
let tokens = 0

const apply = (event: RequestEvent): void => {
  const all = requests.get()
  const at = all.findIndex(({ id }) => id === event.id)
  const known = all[at]
  if (event.kind === "attempt") {
    if (known === undefined) return
    const attempts = [...(known.attempts ?? [])]
    attempts[event.attempt.attempt - 1] = event.attempt
    requests.set(all.with(at, { ...known, attempts }))
    return
  }
  const { kind, ...fields } = event
  if (known !== undefined) requests.set(all.with(at, { ...known, ...fields }))
  else if (event.kind === "begin" || event.kind === "end") requests.set([event, ...all].slice(0, maxRequests))
}

/** What has happened since the requests were asked for: the list may be older than that. */
let since: Array<RequestEvent> | undefined

const onRequest = (event: RequestEvent): void => {
  since?.push(event)
  apply(event)
  if (event.kind === "end") tokens += event.completion_tokens ?? 0
}

const onDownload = (download: Download): void => {
  const others = downloads
    .get()
    .filter(
      ({ action, model, server }) =>
        !(action === download.action && model === download.model && server === download.server)
    )
  downloads.set([download, ...others].slice(0, maxDownloads))
}

const fail = (error: unknown): void =>
  problem.set({
    status: error instanceof ApiError ? error.status : 0,
    message: error instanceof Error ? error.message : String(error)
  })

/** The clock of the gateway, which need not be that of the browser. */
export const gatewayTime = (): number => Date.now() + skew
let skew = 0

let asked = 0
let answered = 0

export const readFleet = async (): Promise<void> => {
  const number = ++asked
  try {
    const known = await get<Fleet>("/fleet")
    // A later question was answered sooner.
    if (number < answered) return
    answered = number
    skew = known.at - Date.now()
    fleet.set(known)
    problem.set(undefined)
  } catch (error) {
    fail(error)
  }
}

const readRequests = async (): Promise<void> => {
  const mine: Array<RequestEvent> = []
  since = mine
  try {
    const { recent, running } = await get<{ running: ReadonlyArray<Request>; recent: ReadonlyArray<Request> }>(
      "/requests"
    )
    // Asked for again meanwhile: the later list holds.
    if (since !== mine) return
    requests.set([...running, ...recent].slice(0, maxRequests))
    for (const event of mine) apply(event)
  } finally {
    if (since === mine) since = undefined
  }
}

const point = (): void => {
  const at = Date.now()
  now.set(gatewayTime())
  const known = fleet.get()
  if (known === undefined) return
  points.set([...points.get(), { at, inFlight: known.in_flight, queued: known.queued, tokens }].slice(-maxPoints))
  tokens = 0
  loads.set(
    new Map(
      known.servers
        .slice(0, 200)
        .map(({ in_flight, server }) => [server, [...(loads.get().get(server) ?? []), in_flight].slice(-maxLoad)])
    )
  )
}

/** A page that is hidden for this long stops reading, in milliseconds. */
const hiddenTime = 15_000

/** Reads while the page is seen; gives what ends it. */
export const start = (): (() => void) => {
  let stop: (() => void) | undefined = listen()
  let timer: ReturnType<typeof setTimeout> | undefined
  const changed = () => {
    clearTimeout(timer)
    if (document.visibilityState === "visible") stop ??= listen()
    else {
      timer = setTimeout(() => {
        stop?.()
        stop = undefined
      }, hiddenTime)
    }
  }
  document.addEventListener("visibilitychange", changed)
  return () => {
    document.removeEventListener("visibilitychange", changed)
    clearTimeout(timer)
    stop?.()
  }
}

const listen = (): (() => void) => {
  void readFleet()
  void readRequests().catch(fail)
  const events = eventsAt("fleet,request,download,model")
  events.onopen = () => {
    connected.set(true)
    void readFleet()
    // No event shows what began before the subscription, the first time or after a break.
    void readRequests().catch(fail)
  }
  events.onerror = () => connected.set(false)
  events.addEventListener("fleet", ({ data }) => onServer(JSON.parse(data)))
  events.addEventListener("request", ({ data }) => onRequest(JSON.parse(data)))
  events.addEventListener("download", ({ data }) => onDownload(JSON.parse(data)))
  events.addEventListener("model", () => void readFleet())
  events.addEventListener("gap", () => {
    void readFleet()
    void readRequests().catch(fail)
  })
  const every = setInterval(point, 1_000)
  // Loads and unloads that others cause are no events.
  const poll = setInterval(() => {
    if (document.visibilityState === "visible") void readFleet()
  }, 5_000)
  return () => {
    events.close()
    connected.set(false)
    clearInterval(every)
    clearInterval(poll)
  }
}
