import { useState } from "preact/hooks"
import { get } from "../api"
import * as Format from "../format"
import { downloads, useStore } from "../store"
import { type Act, useActions } from "./acting"
import { useData } from "./data"
import { Downloads } from "./downloads"
import * as Models from "./modelActions"
import { Badge, Empty, Problem, Tile } from "./small"
import { Headings } from "./tables"

interface Engine {
  readonly engine: string | null
  readonly state: string
  readonly problem: string | null
  readonly slots: number | null
  readonly in_flight: number
  readonly memory: number | null
  readonly tokens_per_second: number | null
}

interface Local {
  readonly name: string
  readonly size: number
  readonly context_size: number | null
  readonly family: string
  readonly embeddings: boolean
  readonly loaded: boolean
  readonly engines: ReadonlyArray<Engine>
}

interface Hardware {
  readonly cpu: { readonly cores: number; readonly model: string | null }
  readonly ram: { readonly total: number; readonly available: number }
  readonly storage: { readonly total: number; readonly available: number } | null
  readonly gpus: ReadonlyArray<{
    readonly id: string
    readonly name: string | null
    readonly total_vram: number | null
    readonly free_vram: number | null
  }>
}

interface Quantisation {
  readonly name: string
  readonly size: number
  readonly fits: boolean | null
  readonly chosen: boolean
}

const sum = (values: ReadonlyArray<number | null>): number | null =>
  values.every((value) => value === null) ? null : values.reduce<number>((all, value) => all + (value ?? 0), 0)

const LocalRow = ({ act, manages, model }: { readonly model: Local; readonly manages: boolean; readonly act: Act }) => {
  const { engines, loaded, name } = model
  const working = engines.find(({ state }) => state === "starting" || state === "loading")
  const problem = engines.find((engine) => engine.problem !== null)?.problem
  const remove = () => {
    if (!confirm(`Remove ${name} from this machine? It is stopped, and its files are deleted.`)) return
    act(`${name} is removed`, () => Models.removeHere(name))
  }
  return (
    <tr>
      <th scope="row">
        <bdi>{Format.harmless(name)}</bdi>
        <div class="dim small">
          {[
            model.family,
            model.embeddings ? "embeddings" : "",
            model.context_size === null ? "" : `${Format.count(model.context_size)} tokens of context`
          ]
            .filter((one) => one !== "")
            .join(" · ")}
        </div>
      </th>
      <td>
        {loaded ? (
          <Badge tone="good">loaded</Badge>
        ) : working === undefined ? (
          <span class="dim">on disk</span>
        ) : (
          <Badge tone="info">{working.state}</Badge>
        )}
        {problem === undefined || problem === null ? null : (
          <div class="bad-text small">{Format.harmless(problem)}</div>
        )}
      </td>
      <td>{[...new Set(engines.map(({ engine }) => engine ?? ""))].filter((one) => one !== "").join(", ") || "–"}</td>
      <td class="number">{Format.bytes(model.size)}</td>
      <td class="number">{Format.bytes(sum(engines.map(({ memory }) => memory)))}</td>
      <td class="number">{Format.speed(sum(engines.map((engine) => engine.tokens_per_second)))}</td>
      {manages ? (
        <td class="actions">
          {loaded ? (
            <button
              type="button"
              class="small"
              aria-label={`Unload ${name} on this machine`}
              onClick={() => act(`${name} is unloaded`, () => Models.unloadHere(name))}
            >
              Unload
            </button>
          ) : (
            <button
              type="button"
              class="small"
              aria-label={`Load ${name} on this machine`}
              disabled={working !== undefined}
              onClick={() => act(`${name} is loaded`, () => Models.loadHere(name))}
            >
              Load
            </button>
          )}
          <button type="button" class="small danger" aria-label={`Remove ${name} from this machine`} onClick={remove}>
            Remove
          </button>
        </td>
      ) : null}
    </tr>
  )
}

/** Which forms a repository has of its model, and which of them fit. */
const PullHere = ({ act }: { readonly act: Act }) => {
  const [model, setModel] = useState("")
  const [found, setFound] = useState<{ readonly model: string; readonly all: ReadonlyArray<Quantisation> }>()
  const [problem, setProblem] = useState<Error>()
  const [looking, setLooking] = useState(false)
  const name = model.trim()
  const pull = (what: string) => {
    setFound(undefined)
    setModel("")
    act(`The download of ${what} has begun`, () => Models.pullHere(what))
  }
  const look = () => {
    setProblem(undefined)
    setFound(undefined)
    setLooking(true)
    get<{ readonly quantisations: ReadonlyArray<Quantisation> }>(
      `/local/quantisations?model=${encodeURIComponent(name)}`
    )
      .then(({ quantisations }) => setFound({ model: name, all: quantisations }), setProblem)
      .finally(() => setLooking(false))
  }
  return (
    <div class="pull">
      <form
        class="row"
        onSubmit={(event) => {
          event.preventDefault()
          if (name !== "") pull(name)
        }}
      >
        <input
          aria-label="Model to pull to this machine"
          placeholder="Name, owner/repository or address"
          value={model}
          onInput={(event) => setModel(event.currentTarget.value)}
        />
        <button type="submit" class="small primary" disabled={name === ""}>
          Pull
        </button>
        <button type="button" class="small" disabled={name === "" || looking} onClick={look}>
          {looking ? "Looking…" : "What fits?"}
        </button>
      </form>
      <Problem of={problem} />
      {found === undefined ? null : found.all.length === 0 ? (
        <Empty>There are no quantisations.</Empty>
      ) : (
        <div class="scroll" tabIndex={0} role="region" aria-label={`Quantisations of ${found.model}`}>
          <table>
            <Headings
              names={["Quantisation", "Size", "In the memory that is free", "Actions"]}
              numbers={["Size", "Actions"]}
            />
            <tbody>
              {found.all.map(({ chosen, fits, name, size }) => (
                <tr key={name}>
                  <th scope="row">
                    <bdi>{Format.harmless(name)}</bdi> {chosen ? <Badge tone="info">taken by default</Badge> : null}
                  </th>
                  <td class="number">{Format.bytes(size)}</td>
                  <td>
                    {fits === null || fits === undefined ? (
                      <span class="dim">not known</span>
                    ) : fits ? (
                      <Badge tone="good">fits</Badge>
                    ) : (
                      <Badge tone="warn">too large</Badge>
                    )}
                  </td>
                  <td class="actions">
                    <button
                      type="button"
                      class="small"
                      aria-label={`Pull ${name}`}
                      onClick={() => pull(`${found.model.replace(/:[^/:]*$/, "")}:${name}`)}
                    >
                      Pull
                    </button>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </div>
  )
}

/** The models of the machine of the gateway. */
export const ThisMachine = ({ manages }: { readonly manages: boolean }) => {
  const events = useStore(downloads)
  const local = useData<{ readonly models: ReadonlyArray<Local> }>("/local/models", 5_000)
  const hardware = useData<Hardware>("/v1/hardware", 15_000)
  const { act, told } = useActions(local.reload)
  const machine = hardware.value
  const models = local.value?.models
  if (local.problem?.status === 404)
    return (
      <section class="card" aria-label="This machine">
        <h2>This machine</h2>
        <p class="dim">
          This gateway does not manage the models of its machine: <code>aicortex serve</code> does, without{" "}
          <code>--no-local</code>.
        </p>
      </section>
    )
  return (
    <section class="card stack" aria-label="This machine">
      <h2>This machine</h2>
      {told}
      <Problem of={local.problem} />
      {machine === undefined ? null : (
        <dl class="line-tiles">
          <Tile
            label="Memory free"
            value={Format.bytes(machine.ram.available)}
            note={`of ${Format.bytes(machine.ram.total)}`}
          />
          {machine.storage === null ? null : (
            <Tile
              label="Disk free"
              value={Format.bytes(machine.storage.available)}
              note={`of ${Format.bytes(machine.storage.total)}`}
            />
          )}
          <Tile
            label="Processors"
            value={String(machine.cpu.cores)}
            {...(machine.cpu.model === null ? {} : { note: machine.cpu.model })}
          />
          {machine.gpus.map(({ free_vram, id, name, total_vram }) => (
            <Tile
              key={id}
              label={Format.harmless(name ?? "Graphics card")}
              value={Format.bytes(free_vram)}
              note={total_vram === null ? "free" : `free of ${Format.bytes(total_vram)}`}
            />
          ))}
        </dl>
      )}
      {manages ? <PullHere act={act} /> : null}
      {events.some(({ server }) => server === "this machine") ? (
        <Downloads
          all={events.filter(({ server }) => server === "this machine")}
          {...(manages
            ? { cancel: (task: string) => act("The download is stopped", () => Models.cancelPull(task)) }
            : {})}
        />
      ) : null}
      {models === undefined ? (
        local.problem === undefined ? (
          <Empty>Reading the models…</Empty>
        ) : null
      ) : models.length === 0 ? (
        <Empty>This machine has no models yet.</Empty>
      ) : (
        <div class="scroll" tabIndex={0} role="region" aria-label="Models of this machine">
          <table>
            <Headings
              names={["Model", "State", "Engine", "Size", "In memory", "Speed", ...(manages ? ["Actions"] : [])]}
              numbers={["Size", "In memory", "Speed", "Actions"]}
            />
            <tbody>
              {models.map((model) => (
                <LocalRow key={model.name} model={model} manages={manages} act={act} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  )
}
