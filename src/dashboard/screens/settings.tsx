import { useEffect, useState } from "preact/hooks"
import { get } from "../api"
import { Empty, Title } from "../parts/small"

const words = (value: unknown): string =>
  value === null || value === undefined
    ? "–"
    : Array.isArray(value)
      ? value.length === 0
        ? "none"
        : value.map(words).join(", ")
      : typeof value === "object"
        ? Object.entries(value).length === 0
          ? "none"
          : Object.entries(value)
              .map(([name, one]) => `${name}: ${words(one)}`)
              .join("; ")
        : typeof value === "boolean"
          ? value
            ? "on"
            : "off"
          : String(value)

/** The settings that hold, without secrets. */
export const Settings = () => {
  const [config, setConfig] = useState<Record<string, unknown>>()
  const [error, setError] = useState("")
  useEffect(() => {
    get<Record<string, unknown>>("/config").then(setConfig, (reason) => setError(reason.message))
  }, [])
  return (
    <>
      <Title name="Settings" />
      <p class="dim">
        What holds now. It is changed in the configuration file, by the environment or by flags;{" "}
        <code>aicortex config show</code> tells where each value comes from.
      </p>
      {error === "" ? null : (
        <p role="alert" class="error">
          {error}
        </p>
      )}
      {config === undefined ? (
        <Empty>Reading the settings…</Empty>
      ) : (
        <section class="card" aria-label="Settings">
          <dl class="facts wide">
            {Object.entries(config).map(([name, value]) => (
              <div key={name}>
                <dt>
                  <code>{name}</code>
                </dt>
                <dd>{words(value)}</dd>
              </div>
            ))}
          </dl>
        </section>
      )}
    </>
  )
}
