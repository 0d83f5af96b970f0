import { useState } from "preact/hooks"
import { post } from "../api"
import * as Format from "../format"
import { type Act, useActions } from "../parts/acting"
import { Chart } from "../parts/chart"
import { Downloads } from "../parts/downloads"
import * as Models from "../parts/modelActions"
import { Empty, Meter, Sparkline, State, Tile, Title } from "../parts/small"
import { Headings, MemoryState } from "../parts/tables"
import { downloads, fleet, loads, now, problem, readFleet, useStore } from "../store"
import type { Breaker, Model, Server } from "../types"

const why = ({ reason, rests_until, since, state, why }: Breaker, at: number): string => {
  const what = state === "open" ? "Resting" : "On trial"
  const next = rests_until === null || rests_until <= at ? "" : ` Next try in ${Format.span(rests_until, at)}.`
  return `${what}${since === null ? "" : ` for ${Format.span(since, at)}`}: ${why ?? reason ?? "it failed"}.${next}`
}

const inFolder = (server: string): string => `/servers/${encodeURIComponent(server)}`

const Memory = ({ model: { gpu_memory, memory } }: { readonly model: Model }) => {
  if (memory === null) return <>–</>
  const share = gpu_memory === null || memory === 0 ? undefined : Math.round((gpu_memory / memory) * 100)
  return (
    <>
      {Format.bytes(memory)}
      {share === undefined ? "" : <span class="dim"> {share} % GPU</span>}
    </>
  )
}

const ModelRow = ({
  act,
  at,
  manages,
  model,
  server
}: {
  readonly model: Model
  readonly server: Server
  readonly manages: boolean
  readonly at: number
  readonly act: Act
}) => {
  const remove = () => {
    if (!confirm(`Remove ${model.model} from ${server.server}? Its files are deleted there.`)) return
    act(`${model.model} is removed`, () => Models.remove(server.server, model.model))
  }
  return (
    <tr>
      <th scope="row">
        <bdi>{Format.harmless(model.model)}</bdi>
        {model.state === "closed" || server.state !== "closed" ? null : (
          <>
            {" "}
            <State of={model} />
            <div class="dim small">{why(model, at)}</div>
          </>
        )}
      </th>
      <td>
        <MemoryState model={model} server={server} at={at} />
      </td>
      <td class="number">
        {model.in_flight}
        {model.places === null ? "" : ` / ${model.places}`}
        {model.queued > 0 ? <span class="warn-text"> +{model.queued}</span> : null}
      </td>
      <td class="number">{Format.bytes(model.size)}</td>
      <td class="number">
        <Memory model={model} />
      </td>
      <td class="number">{Format.speed(model.tokens_per_second)}</td>
      <td class="number">{Format.milliseconds(model.first_token_ms)}</td>
      {manages && server.protocol === "ollama" ? (
        <td class="actions">
          {model.loaded ? (
            <button
              type="button"
              class="small"
              onClick={() => act(`${model.model} is unloaded`, () => Models.unload(server.server, model.model))}
              aria-label={`Unload ${model.model}`}
            >
              Unload
            </button>
          ) : (
            <button
              type="button"
              class="small"
              onClick={() => act(`${model.model} is loaded`, () => Models.load(server.server, model.model))}
              aria-label={`Load ${model.model}`}
            >
              Load
            </button>
          )}
          <button type="button" class="small danger" onClick={remove} aria-label={`Remove ${model.model}`}>
            Remove
          </button>
        </td>
      ) : manages ? (
        <td />
      ) : null}
    </tr>
  )
}

const Pull = ({ act, server }: { readonly server: string; readonly act: Act }) => {
  const [model, setModel] = useState("")
  const pull = (event: Event) => {
    event.preventDefault()
    const name = model.trim()
    if (name === "") return
    setModel("")
    act(`${name} is there`, () => Models.pull(server, name))
  }
  return (
    <form class="row" onSubmit={pull}>
      <input
        aria-label={`Model to pull on ${server}`}
        placeholder="Model to pull, such as llama3.2:3b"
        value={model}
        onInput={(event) => setModel(event.currentTarget.value)}
      />
      <button type="submit" class="small">
        Pull
      </button>
    </form>
  )
}

const Card = ({
  act,
  admin,
  manages,
  server
}: {
  readonly server: Server
  readonly admin: boolean
  readonly manages: boolean
  readonly act: Act
}) => {
  const at = useStore(now)
  const load = useStore(loads).get(server.server) ?? []
  const [all, setAll] = useState(false)
  const shown = all ? server.models : server.models.slice(0, 4)
  const paused = server.draining || server.state !== "closed"
  const change = (action: string, done: string) => act(done, () => post(inFolder(server.server), { action }))
  const trouble =
    server.state !== "closed" ? why(server, at) : server.reachable ? "" : (server.problem ?? "it does not answer")
  return (
    <article
      class={`card server ${server.state === "open" || !server.reachable ? "is-bad" : paused ? "is-warn" : ""}`}
      aria-label={`Server ${server.server}`}
    >
      <header>
        <div>
          <h2>
            <bdi>{server.server}</bdi>
          </h2>
          <p class="dim">
            {[server.protocol ?? "unknown protocol", server.version, server.local ? "local" : "remote"]
              .filter(Boolean)
              .join(" · ")}
          </p>
        </div>
        <State of={server} draining={server.draining} reachable={server.reachable} />
      </header>
      {trouble === "" ? null : <p class="trouble">{Format.harmless(trouble)}</p>}
      <div class="gauges">
        <dl>
          <Tile
            label="In flight"
            value={String(server.in_flight)}
            {...(server.places === null ? {} : { note: `/ ${server.places}` })}
          />
          <Tile label="Queued" value={String(server.queued)} />
          <Tile label="Speed" value={Format.speed(server.tokens_per_second)} />
          <Tile label="First token" value={Format.milliseconds(server.first_token_ms)} />
        </dl>
        <Sparkline values={load} label={`Requests in flight in the last minute, now ${server.in_flight}`} />
      </div>
      {server.places === null ? null : <Meter value={server.in_flight} most={server.places} label="Places in use" />}
      {shown.length === 0 ? (
        <Empty>No models are known.</Empty>
      ) : (
        <div class="scroll" tabIndex={0} role="region" aria-label={`Models of ${server.server}`}>
          <table>
            <Headings
              names={[
                "Model",
                "Memory state",
                "In flight",
                "Size",
                "In memory",
                "Speed",
                "First token",
                ...(manages ? ["Actions"] : [])
              ]}
              numbers={["In flight", "Size", "In memory", "Speed", "First token"]}
            />
            <tbody>
              {shown.map((model) => (
                <ModelRow key={model.model} model={model} server={server} manages={manages} at={at} act={act} />
              ))}
            </tbody>
          </table>
        </div>
      )}
      <footer>
        {server.model_count > 4 ? (
          <button type="button" class="quiet small" aria-expanded={all} onClick={() => setAll(!all)}>
            {all ? "Fewer models" : `All ${server.model_count} models`}
          </button>
        ) : null}
        {manages && server.protocol === "ollama" ? <Pull server={server.server} act={act} /> : null}
        {admin && server.server !== "embedded" ? (
          <>
            <span class="push" />
            {paused ? (
              <button type="button" class="small primary" onClick={() => change("wake", `${server.server} is awake`)}>
                Wake
              </button>
            ) : null}
            {server.draining ? null : (
              <button
                type="button"
                class="small"
                onClick={() => change("drain", `${server.server} gets no new requests`)}
              >
                Drain
              </button>
            )}
            {paused ? null : (
              <button type="button" class="small" onClick={() => change("rest", `${server.server} rests for a minute`)}>
                Rest
              </button>
            )}
          </>
        ) : null}
      </footer>
    </article>
  )
}

const DownloadsCard = () => {
  const all = useStore(downloads)
  return all.length === 0 ? null : (
    <section class="card" aria-label="Downloads">
      <h2>Downloads</h2>
      <Downloads all={all} />
    </section>
  )
}

export const FleetScreen = () => {
  const known = useStore(fleet)
  const trouble = useStore(problem)
  const [filter, setFilter] = useState("")
  const { act, told } = useActions(() => void readFleet())
  const servers = (known?.servers ?? []).filter(
    ({ models, server }) =>
      filter === "" || server.includes(filter) || models.some(({ model }) => model.includes(filter))
  )
  const all = known?.servers ?? []
  const up = all.filter(({ reachable, state }) => reachable && state === "closed").length
  return (
    <>
      <Title name="Fleet">
        {all.length > 6 ? (
          <input
            type="search"
            placeholder="Server or model"
            aria-label="Filter by server or model"
            value={filter}
            onInput={(event) => setFilter(event.currentTarget.value)}
          />
        ) : null}
      </Title>
      {trouble === undefined ? null : (
        <p role="alert" class="error banner">
          {trouble.message}
        </p>
      )}
      {told}
      {known === undefined ? (
        <Empty>Reading the state of the fleet…</Empty>
      ) : (
        <>
          <dl class="tiles">
            <Tile label="Servers" value={`${up}`} note={`of ${all.length} available`} />
            <Tile label="In flight" value={Format.count(known.in_flight)} />
            <Tile label="Queued" value={Format.count(known.queued)} />
            <Tile
              label="Models loaded"
              value={Format.count(
                all.reduce((sum, { models }) => sum + models.filter(({ loaded }) => loaded).length, 0)
              )}
            />
            {known.remote_tokens.limit === null ? null : (
              <Tile
                label="Remote tokens today"
                value={Format.count(known.remote_tokens.used)}
                note={`of ${Format.count(known.remote_tokens.limit)}`}
              />
            )}
          </dl>
          <Chart />
          <DownloadsCard />
          <div class="servers">
            {servers.slice(0, 100).map((server) => (
              <Card key={server.server} server={server} admin={known.admin} manages={known.manages} act={act} />
            ))}
          </div>
          {servers.length > 100 ? <Empty>{servers.length - 100} more servers: filter them by name.</Empty> : null}
        </>
      )}
    </>
  )
}
