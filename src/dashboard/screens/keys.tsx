import { useState } from "preact/hooks"
import { call, post, readSession, signIn } from "../api"
import * as Format from "../format"
import { useData } from "../parts/data"
import { Dialog, DialogButtons } from "../parts/dialog"
import { Badge, Code, Empty, Problem, Title } from "../parts/small"
import { session, useStore } from "../store"
import { NoStore } from "./usage"

interface Key {
  readonly id: string
  readonly name: string
  readonly state: "active" | "expired" | "revoked"
  readonly role: "use" | "manage" | "admin"
  readonly models: ReadonlyArray<string> | null
  readonly requests_per_minute: number | null
  readonly tokens_per_minute: number | null
  readonly concurrency: number | null
  readonly tokens_per_day: number | null
  readonly tokens_per_week: number | null
  readonly tokens_per_month: number | null
  readonly private: boolean
  readonly priority: "interactive" | "batch"
  readonly note: string | null
  readonly created_at: string
  readonly expires_at: string | null
  readonly rotated_at: string | null
  readonly previous_valid_until: string | null
}

interface Told {
  readonly name: string
  readonly key: string
}

const limitsOf = (key: Key): ReadonlyArray<string> => {
  const each = (value: number | null, unit: string) => (value === null ? [] : [`${Format.count(value)} ${unit}`])
  return [
    ...each(key.requests_per_minute, "requests a minute"),
    ...each(key.tokens_per_minute, "tokens a minute"),
    ...each(key.concurrency, "at once"),
    ...each(key.tokens_per_day, "tokens a day"),
    ...each(key.tokens_per_week, "tokens a week"),
    ...each(key.tokens_per_month, "tokens a month"),
    ...(key.private ? ["local servers only"] : []),
    ...(key.priority === "batch" ? ["lets others go first"] : [])
  ]
}

/** A new key, once: the page keeps it no longer than this is open. */
const Secret = ({ close, told }: { readonly told: Told; readonly close: () => void }) => (
  <Dialog name={`The key ${told.name}`} close={close}>
    <p>It is shown once: store it now. The gateway keeps a hash of it alone.</p>
    <Code label="API key" text={told.key} />
    <div class="row end">
      <button type="button" class="primary" onClick={close}>
        I have stored it
      </button>
    </div>
  </Dialog>
)

const numbers = [
  ["requests_per_minute", "Requests a minute"],
  ["tokens_per_minute", "Tokens a minute"],
  ["concurrency", "Requests at once"],
  ["tokens_per_day", "Tokens a day"],
  ["tokens_per_week", "Tokens a week"],
  ["tokens_per_month", "Tokens a month"]
] as const

const Create = ({
  close,
  done,
  first
}: {
  readonly first: boolean
  readonly close: () => void
  readonly done: (told: Told) => void
}) => {
  const [problem, setProblem] = useState<Error>()
  const submit = async (event: SubmitEvent) => {
    event.preventDefault()
    const data = new FormData(event.currentTarget as HTMLFormElement)
    const text = (name: string) => String(data.get(name) ?? "").trim()
    const number = (name: string) => (text(name) === "" ? undefined : Number(text(name)))
    const days = number("expires")
    const models = text("models")
      .split(/[\s,]+/)
      .filter((one) => one !== "")
    const body = {
      name: text("name"),
      role: text("role"),
      models: models.length === 0 ? undefined : models,
      ...Object.fromEntries(numbers.map(([name]) => [name, number(name)])),
      expires_in: days === undefined ? undefined : Math.round(days * 86_400),
      private: data.has("private") ? true : undefined,
      priority: data.has("batch") ? "batch" : undefined,
      note: text("note") === "" ? undefined : text("note")
    }
    try {
      const told: Told = await (await post("/keys", body)).json()
      // From the first key on the gateway asks for one: this page goes on with it.
      if (first) session.set(await signIn(told.key))
      done(told)
    } catch (error) {
      setProblem(error instanceof Error ? error : new Error(String(error)))
    }
  }
  return (
    <Dialog name="New key" close={close}>
      <form class="form" onSubmit={(event) => void submit(event)} autocomplete="off">
        {first ? (
          <p class="trouble">
            From the first key on, every request to this gateway needs one, also those of this page. Make the first one
            an administrator's.
          </p>
        ) : null}
        <div class="two">
          <label>
            Name
            <input name="name" required maxLength={64} placeholder="alice" />
          </label>
          <label>
            Role
            <select name="role">
              <option value="use">use: asks models</option>
              <option value="manage">manage: also changes models</option>
              <option value="admin" selected={first}>
                admin: everything
              </option>
            </select>
          </label>
        </div>
        <label>
          Models
          <input name="models" placeholder="all; or llama3.2*, auto" />
        </label>
        <details>
          <summary>Limits and quotas</summary>
          <div class="two">
            {numbers.map(([name, label]) => (
              <label key={name}>
                {label}
                <input name={name} type="number" min="1" step="1" placeholder="no limit" />
              </label>
            ))}
          </div>
          <p class="dim small">A day, a week from Monday and a month are those of UTC.</p>
        </details>
        <div class="two">
          <label>
            Expires after days
            <input name="expires" type="number" min="1" max="3650" placeholder="never" />
          </label>
          <label>
            Note
            <input name="note" maxLength={500} />
          </label>
        </div>
        <div class="row">
          <label class="inline">
            <input name="private" type="checkbox" /> Local servers only
          </label>
          <label class="inline">
            <input name="batch" type="checkbox" /> Lets others go first
          </label>
        </div>
        <Problem of={problem} />
        <DialogButtons action="Create" close={close} />
      </form>
    </Dialog>
  )
}

const Rotate = ({
  close,
  done,
  of
}: {
  readonly of: Key
  readonly close: () => void
  readonly done: (told: Told) => void
}) => {
  const [grace, setGrace] = useState("0")
  const [problem, setProblem] = useState<Error>()
  const submit = (event: Event) => {
    event.preventDefault()
    post(`/keys/${of.id}/rotate`, { grace: Number(grace) })
      .then(async (response) => done(await response.json()))
      .catch(setProblem)
  }
  return (
    <Dialog name={`Rotate ${of.name}`} close={close}>
      <form class="form" onSubmit={submit}>
        <p>The key gets another text; its name, limits and usage stay.</p>
        <label>
          The text before stays valid for
          <select
            aria-label="The text before stays valid for"
            value={grace}
            onChange={(event) => setGrace(event.currentTarget.value)}
          >
            <option value="0">no longer</option>
            <option value="3600">an hour</option>
            <option value="86400">a day</option>
            <option value="604800">a week</option>
          </select>
        </label>
        <Problem of={problem} />
        <DialogButtons action="Rotate" close={close} />
      </form>
    </Dialog>
  )
}

/** The keys of the store. */
export const Keys = () => {
  const [all, setAll] = useState(false)
  const keys = useData<{ readonly keys: ReadonlyArray<Key> }>(`/keys${all ? "?all=true" : ""}`)
  const config = useData<{ readonly keys: ReadonlyArray<string> }>("/config")
  const signedIn = useStore(session)
  const [making, setMaking] = useState(false)
  const [rotating, setRotating] = useState<Key>()
  const [told, setTold] = useState<Told>()
  const [failed, setFailed] = useState<Error>()
  const listed = keys.value?.keys ?? []
  const done = (one: Told) => {
    setMaking(false)
    setRotating(undefined)
    setTold(one)
    keys.reload()
  }
  const revoke = (key: Key) => {
    if (!confirm(`Revoke ${key.name}? Its users are denied within a second. It cannot be undone.`)) return
    setFailed(undefined)
    call(`/keys/${key.id}`, { method: "DELETE" }).then(async () => {
      keys.reload()
      // It may have been this page's own.
      session.set(await readSession())
    }, setFailed)
  }
  if (keys.problem?.status === 501)
    return (
      <>
        <Title name="Keys" />
        <NoStore what="keys" />
      </>
    )
  return (
    <>
      <Title name="Keys">
        <span class="push" />
        <label class="inline">
          <input type="checkbox" checked={all} onChange={() => setAll(!all)} /> Revoked ones too
        </label>
        <button type="button" class="primary" onClick={() => setMaking(true)}>
          New key
        </button>
      </Title>
      <Problem of={failed ?? keys.problem} />
      {config.value === undefined || config.value.keys.length === 0 ? null : (
        <p class="dim">
          In addition, the settings of the gateway have: {config.value.keys.map(Format.harmless).join(", ")}.
        </p>
      )}
      <section class="card" aria-label="Keys of the store">
        {keys.value === undefined ? (
          <Empty>Reading the keys…</Empty>
        ) : listed.length === 0 ? (
          <Empty>
            The store has no keys.{" "}
            {signedIn?.keys === true ? "" : "Until it has one, everyone who can reach this gateway may use it."}
          </Empty>
        ) : (
          <div class="scroll" tabIndex={0} role="region" aria-label="Keys">
            <table>
              <thead>
                <tr>
                  {["Name", "Role", "Models", "Limits", "Created (UTC)", "Expires (UTC)"].map((name) => (
                    <th scope="col" key={name}>
                      {name}
                    </th>
                  ))}
                  <th scope="col" class="number">
                    Actions
                  </th>
                </tr>
              </thead>
              <tbody>
                {listed.slice(0, 500).map((key) => (
                  <tr key={key.id}>
                    <th scope="row">
                      <bdi>{Format.harmless(key.name)}</bdi>{" "}
                      {key.state === "active" ? null : <Badge tone="bad">{key.state}</Badge>}
                      <div class="dim small">
                        <code>{key.id}</code>
                        {key.note === null ? "" : ` ${Format.harmless(key.note)}`}
                      </div>
                    </th>
                    <td>
                      <Badge tone={key.role === "admin" ? "warn" : "info"}>{key.role}</Badge>
                    </td>
                    <td>
                      {key.models === null ? <span class="dim">all</span> : Format.harmless(key.models.join(", "))}
                    </td>
                    <td>{limitsOf(key).join(", ") || <span class="dim">none</span>}</td>
                    <td>
                      {Format.date(key.created_at)}
                      {key.previous_valid_until !== null && Date.parse(key.previous_valid_until) > Date.now() ? (
                        <div class="dim small">the text before until {Format.date(key.previous_valid_until)}</div>
                      ) : null}
                    </td>
                    <td>{Format.date(key.expires_at)}</td>
                    <td class="actions">
                      {key.state === "revoked" ? null : (
                        <>
                          <button
                            type="button"
                            class="small"
                            aria-label={`Rotate ${key.name}`}
                            onClick={() => setRotating(key)}
                          >
                            Rotate
                          </button>
                          <button
                            type="button"
                            class="small danger"
                            aria-label={`Revoke ${key.name}`}
                            onClick={() => revoke(key)}
                          >
                            Revoke
                          </button>
                        </>
                      )}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </section>
      {making ? <Create first={signedIn?.keys === false} close={() => setMaking(false)} done={done} /> : null}
      {rotating === undefined ? null : <Rotate of={rotating} close={() => setRotating(undefined)} done={done} />}
      {told === undefined ? null : <Secret told={told} close={() => setTold(undefined)} />}
    </>
  )
}
