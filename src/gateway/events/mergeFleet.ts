/** Merges the reports of several processes of one gateway about the same servers. */
import type { ModelView, ServerView } from "./views.js"

type Breaker = Pick<ServerView, "state" | "since" | "rests_until" | "reason" | "why">

const severity = { closed: 0, "half-open": 1, open: 2 } as const

const known = (values: ReadonlyArray<number | null>): ReadonlyArray<number> => values.filter((value) => value !== null)
const most = (values: ReadonlyArray<number | null>): number | null => {
  const all = known(values)
  return all.length === 0 ? null : Math.max(...all)
}
const least = (values: ReadonlyArray<number | null>): number | null => {
  const all = known(values)
  return all.length === 0 ? null : Math.min(...all)
}
const mean = (values: ReadonlyArray<number | null>): number | null => {
  const all = known(values)
  return all.length === 0 ? null : Math.round((10 * all.reduce((one, two) => one + two, 0)) / all.length) / 10
}
const first = <A>(values: ReadonlyArray<A | null>): A | null => values.find((value) => value !== null) ?? null

/** What one has learned the others know a moment later: the worst circuit breaker is shown. */
const worst = (views: readonly [Breaker, ...ReadonlyArray<Breaker>]): Breaker => {
  let found: Breaker = views[0]
  for (const view of views) if (severity[view.state] > severity[found.state]) found = view
  const { reason, rests_until, since, state, why } = found
  return { state, since, rests_until, reason, why }
}

const mergeModels = (views: readonly [ModelView, ...ReadonlyArray<ModelView>]): ModelView => ({
  model: views[0].model,
  ...worst(views),
  loaded: views.some(({ loaded }) => loaded),
  loaded_until: most(views.map((one) => one.loaded_until)),
  size: first(views.map(({ size }) => size)),
  memory: first(views.map(({ memory }) => memory)),
  gpu_memory: first(views.map((one) => one.gpu_memory)),
  in_flight: views.reduce((all, one) => all + one.in_flight, 0),
  places: most(views.map(({ places }) => places)),
  queued: views.reduce((all, { queued }) => all + queued, 0),
  tokens_per_second: mean(views.map((one) => one.tokens_per_second)),
  prompt_tokens_per_second: mean(views.map((one) => one.prompt_tokens_per_second)),
  first_token_ms: mean(views.map((one) => one.first_token_ms))
})

const isSome = <A>(values: ReadonlyArray<A>): values is readonly [A, ...ReadonlyArray<A>] => values.length > 0

/** One server as several processes see it; `only` are the models to list, default: all. */
export const mergeServers = (
  views: readonly [ServerView, ...ReadonlyArray<ServerView>],
  only?: ReadonlySet<string>
): ServerView => {
  const [own, ...others] = views
  if (others.length === 0 && only === undefined) return own
  const byName = new Map<string, Array<ModelView>>()
  for (const { models } of views) {
    for (const model of models) {
      if (only !== undefined && !only.has(model.model)) continue
      const all = byName.get(model.model)
      if (all === undefined) byName.set(model.model, [model])
      else all.push(model)
    }
  }
  const reachable = views.some((one) => one.reachable)
  return {
    server: own.server,
    protocol: first(views.map(({ protocol }) => protocol)),
    version: first(views.map(({ version }) => version)),
    local: own.local,
    reachable,
    problem: reachable ? null : first(views.map(({ problem }) => problem)),
    checked_at: most(views.map((one) => one.checked_at)),
    draining: views.some(({ draining }) => draining),
    ...worst(views),
    in_flight: views.reduce((all, one) => all + one.in_flight, 0),
    // Elsewhere, for one process, are the other processes too: their requests are counted above.
    in_flight_elsewhere: Math.max(
      0,
      others.reduce((all, one) => all - one.in_flight, own.in_flight_elsewhere)
    ),
    places: most(views.map(({ places }) => places)),
    queued: views.reduce((all, { queued }) => all + queued, 0),
    round_trip_ms: least(views.map((one) => one.round_trip_ms)),
    tokens_per_second: most(views.map((one) => one.tokens_per_second)),
    first_token_ms: least(views.map((one) => one.first_token_ms)),
    model_count: Math.max(...views.map((one) => one.model_count)),
    models: [...byName.values()].flatMap((all) => (isSome(all) ? [mergeModels(all)] : []))
  }
}

/** The servers of this process, with what the other processes see of them. */
export const mergeFleets = (
  own: ReadonlyArray<ServerView>,
  others: ReadonlyArray<ReadonlyArray<ServerView>>
): ReadonlyArray<ServerView> =>
  own.map((view) =>
    mergeServers([view, ...others.flatMap((all) => all.find(({ server }) => server === view.server) ?? [])])
  )

/** The last report of each process about each server, for events that are about one process alone. */
export class FleetViews<Process> {
  private readonly known = new Map<string, Map<Process, ServerView>>()

  /** Notes what a process says, which may be of some models only; gives those models of all processes. */
  note(process: Process, view: ServerView): ServerView {
    const views = this.known.get(view.server) ?? new Map<Process, ServerView>()
    this.known.set(view.server, views)
    const models = new Map(views.get(process)?.models.map((model) => [model.model, model]))
    for (const model of view.models) models.set(model.model, model)
    const whole = { ...view, models: [...models.values()] }
    views.set(process, whole)
    return this.merged(views, whole, new Set(view.models.map(({ model }) => model)))
  }

  /** A process has ended; gives the servers that it had requests on, as the others see them. */
  forget(process: Process): ReadonlyArray<ServerView> {
    const changed: Array<ServerView> = []
    for (const views of this.known.values()) {
      const gone = views.get(process)
      views.delete(process)
      const [next] = views.values()
      if (gone === undefined || next === undefined || (gone.in_flight === 0 && gone.queued === 0)) continue
      changed.push(this.merged(views, next, new Set(gone.models.map(({ model }) => model))))
    }
    return changed
  }

  clear(): void {
    this.known.clear()
  }

  private merged(views: ReadonlyMap<Process, ServerView>, latest: ServerView, only: ReadonlySet<string>): ServerView {
    return mergeServers([latest, ...[...views.values()].filter((view) => view !== latest)], only)
  }
}
