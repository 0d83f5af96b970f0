import { useState } from "preact/hooks"
import * as Format from "../format"
import { type Act, useActions } from "../parts/acting"
import { Downloads } from "../parts/downloads"
import * as Models from "../parts/modelActions"
import { Badge, Empty, Title } from "../parts/small"
import { Headings, MemoryState } from "../parts/tables"
import { ThisMachine } from "../parts/thisMachine"
import { downloads, fleet, now, readFleet, session, useStore } from "../store"
import type { Model, Server } from "../types"

interface Place {
  readonly server: Server
  readonly model: Model
}

/** The models with the servers that have them, by name. */
const byModel = (servers: ReadonlyArray<Server>): ReadonlyArray<readonly [string, ReadonlyArray<Place>]> => {
  const all = new Map<string, Array<Place>>()
  for (const server of servers) {
    for (const model of server.models) {
      const places = all.get(model.model)
      if (places === undefined) all.set(model.model, [{ server, model }])
      else places.push({ server, model })
    }
  }
  return [...all].sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }))
}

const FleetRow = ({
  act,
  at,
  manages,
  place
}: {
  readonly place: Place
  readonly manages: boolean
  readonly at: number
  readonly act: Act
}) => {
  const { model, server } = place
  const name = model.model
  const where = server.server
  const remove = () => {
    if (!confirm(`Remove ${name} from ${where}? Its files are deleted there.`)) return
    act(`${name} is removed from ${where}`, () => Models.remove(where, name))
  }
  return (
    <>
      <td>
        <bdi>{where}</bdi>
        {server.reachable ? null : (
          <>
            {" "}
            <Badge tone="bad">unreachable</Badge>
          </>
        )}
      </td>
      <td>
        <MemoryState model={model} server={server} at={at} />
      </td>
      <td class="number">{Format.bytes(model.size)}</td>
      <td class="number">{Format.bytes(model.memory)}</td>
      <td class="number">{Format.speed(model.tokens_per_second)}</td>
      {manages ? (
        <td class="actions">
          {server.protocol !== "ollama" ? null : (
            <>
              <button
                type="button"
                class="small"
                aria-label={`${model.loaded ? "Unload" : "Load"} ${name} on ${where}`}
                onClick={() =>
                  model.loaded
                    ? act(`${name} is unloaded on ${where}`, () => Models.unload(where, name))
                    : act(`${name} is loaded on ${where}`, () => Models.load(where, name))
                }
              >
                {model.loaded ? "Unload" : "Load"}
              </button>
              <button type="button" class="small danger" aria-label={`Remove ${name} from ${where}`} onClick={remove}>
                Remove
              </button>
            </>
          )}
        </td>
      ) : null}
    </>
  )
}

const PullTo = ({ act, servers }: { readonly servers: ReadonlyArray<Server>; readonly act: Act }) => {
  const [model, setModel] = useState("")
  const [where, setWhere] = useState("")
  const able = servers.filter(({ protocol, reachable }) => protocol === "ollama" && reachable)
  if (able.length === 0) return null
  const pull = (event: Event) => {
    event.preventDefault()
    const name = model.trim()
    if (name === "") return
    setModel("")
    act(`${name} is there`, () => Models.pull(where === "" ? undefined : where, name))
  }
  return (
    <form class="row" onSubmit={pull}>
      <input
        aria-label="Model to pull to a server"
        placeholder="Model, such as llama3.2:3b"
        value={model}
        onInput={(event) => setModel(event.currentTarget.value)}
      />
      <select aria-label="Server to pull it to" value={where} onChange={(event) => setWhere(event.currentTarget.value)}>
        <option value="">where most room is</option>
        {able.map(({ server }) => (
          <option key={server} value={server}>
            {server}
          </option>
        ))}
        {able.length > 1 ? <option value="all">all servers</option> : null}
      </select>
      <button type="submit" class="small primary" disabled={model.trim() === ""}>
        Pull
      </button>
    </form>
  )
}

const maxRows = 200

const OfFleet = ({ manages }: { readonly manages: boolean }) => {
  const known = useStore(fleet)
  const events = useStore(downloads)
  const at = useStore(now)
  const [filter, setFilter] = useState("")
  const { act, told } = useActions(() => void readFleet())
  const servers = known?.servers ?? []
  const all = byModel(servers).filter(([name]) => name.toLowerCase().includes(filter.toLowerCase()))
  const others = events.filter(({ server }) => server !== "this machine")
  return (
    <section class="card stack" aria-label="The fleet">
      <div class="row">
        <h2>The fleet</h2>
        <span class="push" />
        <input
          type="search"
          aria-label="Filter models by name"
          placeholder="Model"
          value={filter}
          onInput={(event) => setFilter(event.currentTarget.value)}
        />
      </div>
      {told}
      {manages ? <PullTo servers={servers} act={act} /> : null}
      {others.length === 0 ? null : <Downloads all={others} />}
      {all.length === 0 ? (
        <Empty>{known === undefined ? "Reading the models…" : "No models."}</Empty>
      ) : (
        <div class="scroll" tabIndex={0} role="region" aria-label="Models of the fleet">
          <table>
            <Headings
              names={["Model", "Server", "State", "Size", "In memory", "Speed", ...(manages ? ["Actions"] : [])]}
              numbers={["Size", "In memory", "Speed", "Actions"]}
            />
            <tbody>
              {all.slice(0, maxRows).flatMap(([name, places]) =>
                places.map((place, i) => (
                  <tr key={`${name} ${place.server.server}`}>
                    {i === 0 ? (
                      <th scope="rowgroup" rowSpan={places.length}>
                        <bdi>{Format.harmless(name)}</bdi>
                      </th>
                    ) : null}
                    <FleetRow place={place} manages={manages} at={at} act={act} />
                  </tr>
                ))
              )}
            </tbody>
          </table>
        </div>
      )}
      {all.length > maxRows ? <Empty>{all.length - maxRows} more models: filter them by name.</Empty> : null}
    </section>
  )
}

/** The models of this machine and of the servers. */
export const ModelsScreen = () => {
  const manages = useStore(session)?.role !== "use"
  return (
    <>
      <Title name="Models" />
      <div class="stack">
        <ThisMachine manages={manages} />
        <OfFleet manages={manages} />
      </div>
    </>
  )
}
