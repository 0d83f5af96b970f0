import { useEffect, useRef, useState } from "preact/hooks"
import { address, get } from "../api"
import { ask, begun, bodyOf, type Said, type Settings, type Turn } from "../chat"
import * as Format from "../format"
import { AnswerView } from "../parts/answer"
import { cut, keepSystem, opened, type Session, type Stored, unstored } from "../parts/conversation"
import { Conversations } from "../parts/conversations"
import { Icon } from "../parts/icon"
import { Options, unset } from "../parts/options"
import { Code, Empty, Title } from "../parts/small"
import * as Snippets from "../snippets"
import { fleet, useStore } from "../store"

const maxImage = 8 * 1024 * 1024
const maxTurns = 200

/** It outlives a look at another screen. */
const kept: {
  turns: ReadonlyArray<Turn>
  settings: Settings
  models: ReadonlyArray<string>
  /** What of it is stored, for each model. */
  stored: Array<Stored>
  conversation: string
} = { turns: [], settings: unset, models: ["auto"], stored: [], conversation: "" }

const newConversation = (): string =>
  `page-${[...crypto.getRandomValues(new Uint8Array(9))].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`

const Request = ({ body, keys }: { readonly body: () => Record<string, unknown>; readonly keys: boolean }) => {
  const [kind, setKind] = useState<"curl" | "openai" | "aicortex">("curl")
  let text: string
  try {
    text = Snippets[kind](address(), keys, body())
  } catch (error) {
    text = error instanceof Error ? error.message : String(error)
  }
  return (
    <details class="card as-code">
      <summary>The request as code</summary>
      <div class="tabs" role="group" aria-label="Language">
        {(["curl", "openai", "aicortex"] as const).map((one) => (
          <button type="button" key={one} aria-pressed={kind === one} onClick={() => setKind(one)}>
            {one}
          </button>
        ))}
      </div>
      <Code label={kind} text={text} />
    </details>
  )
}

export const Playground = () => {
  const [names, setNames] = useState<ReadonlyArray<string>>(["auto"])
  const [models, setModels] = useState(kept.models)
  const [settings, setSettings] = useState(kept.settings)
  const [turns, setTurns] = useState(kept.turns)
  const [draft, setDraft] = useState("")
  const [images, setImages] = useState<ReadonlyArray<string>>([])
  const [options, setOptions] = useState(matchMedia("(min-width: 1100px)").matches)
  const [problem, setProblem] = useState("")
  const [running, setRunning] = useState<AbortController>()
  const [list, setList] = useState(false)
  const [changes, setChanges] = useState(0)
  const keys = useStore(fleet)?.keys === true
  const end = useRef<HTMLDivElement>(null)
  const alive = useRef(true)

  useEffect(() => {
    get<{ data: ReadonlyArray<{ id: string }> }>("/v1/models").then(
      ({ data }) => setNames([...new Set(["auto", ...data.map(({ id }) => id)])]),
      (error) => setProblem(error.message)
    )
    return () => {
      alive.current = false
    }
  }, [])
  useEffect(() => {
    kept.turns = turns
    kept.settings = settings
    kept.models = models
  }, [turns, settings, models])
  useEffect(() => end.current?.scrollIntoView({ block: "nearest" }), [turns])

  const saidTo = (all: ReadonlyArray<Turn>, which: number): ReadonlyArray<Said> =>
    all.flatMap(({ answers, images, text }): ReadonlyArray<Said> => {
      const answer = answers[which] ?? answers[0]
      const user = { role: "user" as const, text, images }
      return answer === undefined || answer.text === "" ? [user] : [user, { role: "assistant", text: answer.text }]
    })

  /** What is asked of one model: what its session does not have yet. */
  const requestOf = async (model: string, which: number, before: ReadonlyArray<Turn>, now: Said) => {
    // The results of tools stay with the client that runs them: such a conversation cannot go on in a session.
    const keeps = settings.tools.trim() === ""
    const known = await cut(kept.stored[which] ?? unstored, before.length)
    kept.stored[which] = known
    const body = bodyOf(model, settings, [...saidTo(keeps ? before.slice(known.ends.at(-1) ?? 0) : before, which), now])
    const headers: Record<string, string> = keeps
      ? { "x-aicortex-session": known.id ?? "new" }
      : { "x-session-id": `${kept.conversation}-${which}` }
    return { body, headers }
  }

  const send = async (before: ReadonlyArray<Turn>, text: string, pictures: ReadonlyArray<string>) => {
    setProblem("")
    const asked: Said = { role: "user", text, images: pictures }
    const turn: Turn = { text, images: pictures, answers: models.map((model) => ({ ...begun, model })) }
    const stop = new AbortController()
    if (kept.conversation === "") kept.conversation = newConversation()
    setRunning(stop)
    let requests: ReadonlyArray<Awaited<ReturnType<typeof requestOf>>>
    try {
      requests = await Promise.all(models.map((model, which) => requestOf(model, which, before, asked)))
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error))
      setRunning(undefined)
      return
    }
    let all = [...before, turn]
    if (all.length > maxTurns) {
      all = all.slice(-maxTurns)
      kept.stored = kept.stored.map((one) => ({ ...one, ends: one.ends.map((end) => end - 1) }))
    }
    setTurns(all)
    setDraft("")
    setImages([])
    const { system } = settings
    await Promise.all(
      requests.map(async ({ body, headers }, which) => {
        const {
          lost,
          session,
          state,
          unstored: failed
        } = await ask(body, headers, stop.signal, (answer) => {
          const last = all.at(-1)
          if (last === undefined) return
          all = all.with(-1, { ...last, answers: last.answers.with(which, answer) })
          kept.turns = all
          if (alive.current) setTurns(all)
        })
        const known = kept.stored[which] ?? unstored
        if (lost) kept.stored[which] = unstored
        else if (state === "done" && session !== "" && !failed) {
          kept.stored[which] = { id: session, ends: [...known.ends, all.length], system }
          if (known.system !== system) await keepSystem(session, system).catch(() => {})
        }
      })
    )
    if (!alive.current) return
    setRunning(undefined)
    setChanges((before) => before + 1)
  }
  const open = async (id: string) => {
    running?.abort()
    try {
      const found = opened(await get<Session>(`/v1/sessions/${encodeURIComponent(id)}`))
      kept.stored = [found.stored]
      setTurns(found.turns)
      setSettings({ ...settings, system: found.stored.system })
      setModels([found.model ?? models[0] ?? "auto"])
      setProblem("")
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error))
    }
  }
  const submit = () => {
    const text = draft.trim()
    if (text !== "" && running === undefined) void send(turns, text, images)
  }
  const again = () => {
    const last = turns.at(-1)
    if (last !== undefined) void send(turns.slice(0, -1), last.text, last.images)
  }
  const clear = () => {
    running?.abort()
    setTurns([])
    kept.stored = []
    kept.conversation = ""
  }
  const attach = (files: FileList | null) => {
    for (const file of files ?? []) {
      if (!file.type.startsWith("image/") || file.size > maxImage) {
        setProblem("Only images of up to 8 MB can be added.")
        continue
      }
      const reader = new FileReader()
      reader.onload = () => setImages((before) => [...before, String(reader.result)].slice(0, 8))
      reader.readAsDataURL(file)
    }
  }
  const choose = (which: number, name: string) => setModels(models.with(which, name))
  return (
    <>
      <Title name="Playground">
        {models.map((model, which) => (
          <label class="inline" key={which}>
            <span class="visually-hidden">Model {which + 1}</span>
            <select
              aria-label={models.length > 1 ? `Model ${which + 1}` : "Model"}
              value={model}
              onChange={(event) => choose(which, event.currentTarget.value)}
            >
              {[...new Set([model, ...names])].map((name) => (
                <option key={name} value={name}>
                  {name}
                </option>
              ))}
            </select>
          </label>
        ))}
        <button
          type="button"
          class="small"
          aria-pressed={models.length > 1}
          onClick={() => setModels(models.length > 1 ? models.slice(0, 1) : [...models, names[1] ?? "auto"])}
        >
          Side by side
        </button>
        <span class="push" />
        <button type="button" class="small" aria-expanded={list} onClick={() => setList(!list)}>
          Conversations
        </button>
        <button type="button" class="small" aria-expanded={options} onClick={() => setOptions(!options)}>
          Options
        </button>
        <button type="button" class="small" disabled={turns.length === 0} onClick={clear}>
          New conversation
        </button>
      </Title>
      <div class={`play ${options ? "with-options" : ""} ${list ? "with-list" : ""}`}>
        {list ? (
          <Conversations
            current={kept.stored[0]?.id}
            turn={changes}
            open={(id) => void open(id)}
            removed={(id) => {
              if (kept.stored.some((one) => one.id === id)) clear()
            }}
          />
        ) : null}
        <section class="talk" aria-label="Conversation">
          <div class="turns" role="log" aria-label="Messages" tabIndex={0}>
            {turns.length === 0 ? (
              <Empty>
                Ask any model of the fleet. <b>auto</b> takes the one that fits best.
              </Empty>
            ) : null}
            {turns.map(({ answers, images, text }, i) => (
              <div class="turn" key={i}>
                <div class="user">
                  <p dir="auto">{Format.harmless(text)}</p>
                  {images.map((image, n) => (
                    <img key={n} src={image} alt={`Attachment ${n + 1}`} />
                  ))}
                </div>
                <div class={`answers ${answers.length > 1 ? "both" : ""}`}>
                  {answers.map((answer, n) => (
                    <AnswerView key={n} answer={answer} />
                  ))}
                </div>
              </div>
            ))}
            <div ref={end} />
          </div>
          {problem === "" ? null : (
            <p role="alert" class="error">
              {Format.harmless(problem)}
            </p>
          )}
          {images.length === 0 ? null : (
            <div class="row">
              {images.map((image, n) => (
                <button
                  type="button"
                  key={n}
                  class="thumb"
                  aria-label={`Take image ${n + 1} away`}
                  onClick={() => setImages(images.toSpliced(n, 1))}
                >
                  <img src={image} alt="" />
                </button>
              ))}
            </div>
          )}
          <form
            class="composer"
            onSubmit={(event) => {
              event.preventDefault()
              submit()
            }}
          >
            <textarea
              aria-label="Message"
              rows={2}
              placeholder="Message (Enter sends, Shift+Enter begins a new line)"
              value={draft}
              onInput={(event) => setDraft(event.currentTarget.value)}
              onKeyDown={(event) => {
                if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
                  event.preventDefault()
                  submit()
                }
              }}
            />
            <div class="row">
              <label class="button quiet small">
                <Icon name="image" />
                Image
                <input
                  class="visually-hidden"
                  type="file"
                  accept="image/*"
                  multiple
                  onChange={(event) => {
                    attach(event.currentTarget.files)
                    event.currentTarget.value = ""
                  }}
                />
              </label>
              <button
                type="button"
                class="quiet small"
                disabled={turns.length === 0 || running !== undefined}
                onClick={again}
              >
                <Icon name="again" />
                Regenerate
              </button>
              <span class="push" />
              {running === undefined ? (
                <button type="submit" class="primary" disabled={draft.trim() === ""}>
                  <Icon name="send" />
                  Send
                </button>
              ) : (
                <button type="button" class="danger" onClick={() => running.abort()}>
                  <Icon name="stop" />
                  Stop
                </button>
              )}
            </div>
          </form>
          <Request
            keys={keys}
            body={() =>
              bodyOf(
                models[0] ?? "auto",
                settings,
                draft.trim() === "" && turns.length > 0
                  ? saidTo(turns, 0).slice(0, -1)
                  : [...saidTo(turns, 0), { role: "user", text: draft || "Why is the sky blue?" }]
              )
            }
          />
        </section>
        {options ? <Options settings={settings} set={setSettings} /> : null}
      </div>
    </>
  )
}
