/** A client with a steady pace that checks every byte of what it gets and remembers every turn that was acknowledged. */
import { Agent, type IncomingMessage, request } from "node:http"
import { setTimeout as sleep } from "node:timers/promises"
import { model, tokensOf } from "./servers.js"

/** Who waits longer than this has failed, in milliseconds. */
const timeout = 60_000

/** A session goes on for so many turns. */
const turns = 12

/** A conversation, and the turns of it that the gateway has acknowledged. */
interface Session {
  readonly id: string
  readonly acknowledged: Array<string>
  busy: boolean
}

/** What came of the requests of one phase; times are in milliseconds, `first` of streams only. */
export interface Tally {
  readonly first: Array<number>
  readonly total: Array<number>
  readonly problems: Array<string>
  requested: number
  failed: number
  lost: number
}

const emptyTally = (): Tally => ({ first: [], total: [], problems: [], requested: 0, failed: 0, lost: 0 })

interface Answered {
  readonly status: number
  readonly text: string
  /** Milliseconds until the first byte of the body. */
  readonly first: number
}

type Kind = "whole" | "stream" | "turn" | "streamed turn" | "ollama"
const kinds: ReadonlyArray<Kind> = ["whole", "stream", "turn", "streamed turn", "ollama"]

/** The text of an answer of OpenAI's or Ollama's API, whole or streamed; `undefined` where it is not complete. */
const textOf = (kind: Kind, body: string): string | undefined => {
  if (kind === "whole" || kind === "turn") return JSON.parse(body).choices[0].message.content
  if (kind === "ollama") {
    const lines = body.trimEnd().split("\n")
    const parsed = lines.map((line) => JSON.parse(line))
    return parsed.at(-1).done === true ? parsed.map((line) => line.message.content).join("") : undefined
  }
  if (!body.includes("data: [DONE]")) return undefined
  return [...body.matchAll(/^data: (\{.*\})$/gm)]
    .map(([, event = ""]) => JSON.parse(event).choices[0]?.delta?.content ?? "")
    .join("")
}

export class GoodClient {
  private readonly agent = new Agent({ keepAlive: true })
  private readonly sessions: Array<Session> = []
  /** Sessions with one turn that nobody goes on with: what a storm of new ones would push out. */
  private readonly idle: Array<Session> = []
  private tally = emptyTally()
  private count = 0
  private readonly touched = new Set<Session>()

  constructor(
    private readonly url: string,
    private readonly key: string
  ) {}

  /** Makes the idle sessions. */
  async prepare(count: number): Promise<void> {
    this.idle.push(...(await Promise.all(Array.from({ length: count }, () => this.create()))))
    await Promise.all(this.idle.map((session) => this.ask("turn", session)))
    if (this.tally.failed > 0) throw new Error(`the first turns failed: ${this.tally.problems.join("; ")}`)
  }

  /** Asks `rate` times per second, whatever becomes of earlier requests, and looks for every turn afterwards. */
  async phase(seconds: number, rate: number): Promise<Tally> {
    this.tally = emptyTally()
    const began = performance.now()
    const pending: Array<Promise<void>> = []
    for (let i = 0; i < seconds * rate; i++) {
      const wait = began + (i * 1_000) / rate - performance.now()
      if (wait > 0) await sleep(wait)
      pending.push(this.next())
    }
    await Promise.all(pending)
    for (const session of [...this.touched, ...this.idle]) await this.check(session)
    this.touched.clear()
    return this.tally
  }

  /** Looks for every turn of every session that there ever was. */
  async checkAll(): Promise<Tally> {
    this.tally = emptyTally()
    for (const session of [...this.sessions, ...this.idle]) await this.check(session)
    return this.tally
  }

  close(): void {
    this.agent.destroy()
  }

  private async next(): Promise<void> {
    const kind = kinds[this.count++ % kinds.length] as Kind
    if (kind !== "turn" && kind !== "streamed turn") return this.ask(kind)
    let session = this.sessions.find(({ acknowledged, busy }) => !busy && acknowledged.length < turns)
    try {
      if (session === undefined) {
        session = await this.create()
        this.sessions.push(session)
      }
    } catch (error) {
      this.tally.requested++
      this.fail(`a session: ${error}`)
      return
    }
    session.busy = true
    await this.ask(kind, session)
    session.busy = false
  }

  private fail(problem: string): void {
    this.tally.failed++
    this.tally.problems.push(problem.slice(0, 300))
  }

  private async create(): Promise<Session> {
    const { status, text } = await this.send("POST", "/v1/sessions")
    if (status !== 201) throw new Error(`status ${status}: ${text}`)
    return { id: JSON.parse(text).id, acknowledged: [], busy: false }
  }

  private async ask(kind: Kind, session?: Session): Promise<void> {
    const { tally } = this
    const question = `Q${this.count}-${tally.requested++}-${Math.random().toString(36).slice(2, 8)}`
    const expected = tokensOf(question).join("")
    const stream = kind !== "whole" && kind !== "turn"
    const began = performance.now()
    try {
      const { first, status, text } = await this.send(
        "POST",
        kind === "ollama" ? "/api/chat" : "/v1/chat/completions",
        { model, stream, messages: [{ role: "user", content: question }] },
        session === undefined ? {} : { "x-aicortex-session": session.id }
      )
      if (status !== 200) return this.fail(`${kind}: status ${status}: ${text}`)
      const said = textOf(kind, text)
      if (said !== expected) return this.fail(`${kind}: ${said === undefined ? "cut off" : `wrong: ${said}`}`)
      tally.total.push(performance.now() - began)
      if (stream) tally.first.push(first)
    } catch (error) {
      return this.fail(`${kind}: ${error}`)
    }
    if (session !== undefined) {
      session.acknowledged.push(question, expected)
      this.touched.add(session)
    }
  }

  /** What was acknowledged must be there, in its order. */
  private async check({ acknowledged, id }: Session): Promise<void> {
    try {
      const { status, text } = await this.send("GET", `/v1/sessions/${id}`)
      if (status === 404) {
        this.tally.lost += acknowledged.length / 2
        return
      }
      if (status !== 200) throw new Error(`status ${status}: ${text}`)
      const kept: ReadonlyArray<string> = JSON.parse(text).messages.map(
        ({ content }: { readonly content: unknown }) => content
      )
      let at = 0
      for (const content of kept) if (content === acknowledged[at]) at++
      this.tally.lost += Math.ceil((acknowledged.length - at) / 2)
    } catch (error) {
      this.fail(`the history of a session: ${error}`)
    }
  }

  private send(
    method: string,
    path: string,
    body?: object,
    headers: Readonly<Record<string, string>> = {}
  ): Promise<Answered> {
    const began = performance.now()
    return new Promise((resolve, reject) => {
      const sent = request(
        `${this.url}${path}`,
        {
          method,
          agent: this.agent,
          headers: { "content-type": "application/json", authorization: `Bearer ${this.key}`, ...headers }
        },
        (response: IncomingMessage) => {
          const parts: Array<Buffer> = []
          let first: number | undefined
          response.on("data", (part: Buffer) => {
            first ??= performance.now() - began
            parts.push(part)
          })
          response.on("end", () =>
            resolve({
              status: response.statusCode ?? 0,
              text: Buffer.concat(parts).toString("utf8"),
              first: first ?? performance.now() - began
            })
          )
          response.on("error", reject)
        }
      )
      sent.setTimeout(timeout, () => sent.destroy(new Error(`silence for ${timeout / 1_000} s`)))
      sent.on("error", reject)
      sent.end(body === undefined ? undefined : JSON.stringify(body))
    })
  }
}
