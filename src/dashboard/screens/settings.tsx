import { useState } from "preact/hooks"
import * as Format from "../format"
import { useData } from "../parts/data"
import { Badge, Empty, Problem, Title } from "../parts/small"
import { session, useStore } from "../store"

interface Setting {
  readonly name: string
  readonly value: unknown
  readonly unit: string | null
  readonly from: "default" | "file" | "environment" | "flag"
  /** The variable or the flag. */
  readonly by: string | null
  readonly about: string | null
}

const words = (value: unknown): string => {
  if (value === null || value === undefined) return "–"
  if (Array.isArray(value)) return value.length === 0 ? "none" : value.map(words).join(", ")
  if (typeof value === "boolean") return value ? "on" : "off"
  if (typeof value !== "object") return Format.harmless(String(value))
  // What is not set goes without saying.
  const all = Object.entries(value).filter(([, one]) => one !== null)
  return all.length === 0 ? "none" : all.map(([name, one]) => `${name}: ${words(one)}`).join("; ")
}

/** A setting's value; of several objects, such as servers, each on a line of its own. */
const display = (value: unknown) =>
  Array.isArray(value) && value.some((one) => typeof one === "object")
    ? value.map((one, i) => <div key={i}>{words(one)}</div>)
    : words(value)

const origins = {
  default: ["", "default"],
  file: ["info", "file"],
  environment: ["good", "environment"],
  flag: ["warn", "flag"]
} as const

/** What a user without administrator rights sees: the gateway's error. */
const Plain = () => {
  const config = useData<Record<string, unknown>>("/config")
  return (
    <>
      <Problem of={config.problem} />
      {config.value === undefined ? (
        <Empty>Reading the settings…</Empty>
      ) : (
        <section class="card" aria-label="Settings">
          <dl class="facts wide">
            {Object.entries(config.value).map(([name, value]) => (
              <div key={name}>
                <dt>
                  <code>{name}</code>
                </dt>
                <dd>{display(value)}</dd>
              </div>
            ))}
          </dl>
        </section>
      )}
    </>
  )
}

const All = () => {
  const data = useData<{ readonly file: string | null; readonly settings: ReadonlyArray<Setting> }>("/settings")
  const [filter, setFilter] = useState("")
  const [given, setGiven] = useState(false)
  const all = data.value?.settings ?? []
  const shown = all.filter(
    ({ about, from, name }) =>
      (!given || from !== "default") && `${name} ${about ?? ""}`.toLowerCase().includes(filter.trim().toLowerCase())
  )
  if (data.problem?.status === 404) return <Plain />
  return (
    <>
      <div class="row settings-filter">
        <input
          type="search"
          aria-label="Filter settings"
          placeholder="Setting"
          value={filter}
          onInput={(event) => setFilter(event.currentTarget.value)}
        />
        <label class="inline">
          <input type="checkbox" checked={given} onChange={() => setGiven(!given)} /> Only what is given
        </label>
        <span class="push" />
        {data.value === undefined || data.value.file === null ? null : (
          <span class="dim small">
            File: <code>{Format.harmless(data.value.file)}</code>
          </span>
        )}
      </div>
      <Problem of={data.problem} />
      {data.value === undefined ? (
        data.problem === undefined ? (
          <Empty>Reading the settings…</Empty>
        ) : null
      ) : shown.length === 0 ? (
        <Empty>No setting fits.</Empty>
      ) : (
        <section class="card" aria-label="Settings">
          <div class="scroll" tabIndex={0} role="region" aria-label="Settings and where they come from">
            <table>
              <thead>
                <tr>
                  <th scope="col">Setting</th>
                  <th scope="col">Value</th>
                  <th scope="col">From</th>
                </tr>
              </thead>
              <tbody>
                {shown.map(({ about, by, from, name, unit, value }) => (
                  <tr key={name}>
                    <th scope="row" class="setting">
                      <code>{name}</code>
                      {about === null ? null : <div class="dim small">{about}</div>}
                    </th>
                    <td class="value">
                      {display(value)}
                      {unit === null || typeof value !== "number" ? "" : ` ${unit}`}
                    </td>
                    <td>
                      {from === "default" ? (
                        <span class="dim whole">default</span>
                      ) : (
                        <Badge tone={origins[from][0]}>{origins[from][1]}</Badge>
                      )}
                      {by === null ? null : (
                        <div class="dim small">
                          <code>{by}</code>
                        </div>
                      )}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </section>
      )}
    </>
  )
}

/** What holds and where it comes from, without secrets. */
export const Settings = () => {
  const role = useStore(session)?.role
  return (
    <>
      <Title name="Settings" />
      <p class="dim">What holds now. It is changed in the configuration file, by the environment or by flags.</p>
      {role === "admin" ? <All /> : <Plain />}
    </>
  )
}
