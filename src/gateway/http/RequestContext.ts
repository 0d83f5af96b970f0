/**
 * One request and its response: bodies in, JSON or a stream out, and whoever leaves before the end is noticed.
 *
 * @since 0.1.0
 */
import { isUtf8 } from "node:buffer"
import type { IncomingMessage, ServerResponse } from "node:http"
import type { Priority } from "../../Fleet.js"
import type { Trace } from "../../Telemetry.js"
import type { TraceContext } from "../../Transport.js"
import { Account } from "../observability/RequestRecord.js"
import * as OllamaWire from "../protocols/ollama/validation.js"
import type { Demand, Ticket, Used } from "../rateLimits.js"
import * as Fields from "./body.js"
import * as Problem from "./errorResponse.js"
import * as Policy from "./fieldPolicy.js"
import { HeavyWork } from "./heavyWork.js"
import * as Id from "./id.js"
import { Part, SharedPool } from "./memoryBudget.js"
import { RequestBody } from "./requestBody.js"

/**
 * Which API's errors are told.
 *
 * @since 0.1.0
 * @category models
 */
export type Surface = "openai" | "ollama" | "anthropic"

const requestId = /^[\w.:-]{1,128}$/

/** A body of more bytes, or with more JSON in it (see `bodyCost`), takes so long to read that others have their turn. */
const heavyBytes = 1024 * 1024
const heavyCost = 50_000
const heavyWork = new HeavyWork()

/** So much of a body that nobody wants is read all the same, so that the connection can be used again. */
const smallBody = 64 * 1024

/** After a refusal, so much of a body is still read, so that the client gets to see the refusal; and for so long. */
const lingerBytes = 64 * 1024 * 1024
const lingerTime = 2_000

const ignore = () => {}

const refuseFor = (problem: Problem.Problem | undefined): void => {
  if (problem !== undefined) throw new Problem.Refusal(problem)
}

/** What Ollama says, in plain text, where it has no such endpoint or method. */
const noRoute: { readonly [code: string]: string } = {
  unknown_url: "404 page not found",
  method_not_allowed: "405 method not allowed"
}

type Headers = { [name: string]: string | number }

/** What a client has not read yet. */
class Unsent extends Part {
  constructor(
    owner: string,
    private readonly cutOff: () => void
  ) {
    super(owner)
  }

  evict(): void {
    this.cutOff()
  }
}

/** Answers that clients have not read yet. */
const unsent = new SharedPool(256 * 1024 * 1024)

/** So much of an answer may wait for its client, in bytes, while the server goes on: most answers are shorter. */
const maxUnsent = 1024 * 1024

/**
 * @since 0.1.0
 * @category models
 */
export class Exchange {
  readonly id: string
  readonly began = performance.now()
  surface: Surface = "openai"
  route = "other"
  /** Whose API key it is, by the key's name. */
  caller: string | undefined
  /** How the client names the conversation, if it does. */
  conversation: string | undefined
  /** Whether it may do what only an administrator may. */
  admin = false
  /** `batch` where its key or a header says so. */
  priority: Priority = "interactive"
  /** What it takes of that key's limits, where it has any. */
  ticket: Ticket | undefined
  /** A server was asked on its behalf. */
  asked = false
  /** The client left before the response was complete. */
  left = false
  /** Time spent in our own code, in milliseconds. */
  own = 0
  status = 0
  readonly headers: Headers
  /** What is to be told of it when it is over. */
  readonly account = new Account()
  /** Where its spans go; or, where they go nowhere, the trace that it is a part of. */
  trace: Trace | undefined
  context: TraceContext | undefined
  /** What was left out of the request. */
  ignored = new Policy.Ignored(false)
  private leavers: Array<() => void> | undefined
  private drainers: Array<() => void> | undefined
  private waiting: Part | undefined
  /** What reads the body: it is told when the connection stands still. */
  reading: { readonly over: boolean; stopped(): void } | undefined

  constructor(
    readonly request: IncomingMessage,
    readonly response: ServerResponse,
    closed: (exchange: Exchange) => void
  ) {
    const given = request.headers["x-request-id"]
    this.id = typeof given === "string" && requestId.test(given) ? given : Id.make("req-")
    this.headers = { "x-request-id": this.id }
    response.on("close", () => {
      this.left = !response.writableFinished
      if (this.left && this.leavers !== undefined) for (const leave of this.leavers) leave()
      this.leavers = undefined
      if (this.waiting !== undefined) unsent.release(this.waiting)
      this.wake()
      closed(this)
    })
    // The connection stands still: nothing of the body arrives, or nothing of the answer is read.
    response.on("timeout", () => {
      if (this.reading?.over === false) this.reading.stopped()
      else if (response.writableLength > 0) this.cutOff("client_not_reading")
    })
    // A response that cannot be sent is closed, and that is where it is noticed.
    response.on("error", ignore)
  }

  /** Has `leave` called when the client leaves. */
  onLeave(leave: () => void): void {
    if (this.left) leave()
    else if (this.leavers === undefined) this.leavers = [leave]
    else this.leavers.push(leave)
  }

  /** Takes what it asks for from the limits of its key, or refuses it. */
  reserve(demand: () => Demand): Promise<void> | undefined {
    const asked = this.ticket?.reserve(demand())
    if (asked instanceof Promise) return asked.then(refuseFor)
    refuseFor(asked)
    return undefined
  }

  /** What it has used; `undefined` where a server was at work that nobody waited for until it could be counted. */
  used(): Used | undefined {
    const { completionTokens: completion, promptTokens: prompt } = this.account
    return this.left && this.asked && prompt + completion === 0 ? undefined : { prompt, completion }
  }

  /** What a body asks for. What is left out of it is named in a header. */
  decoded<A>(decode: (body: Fields.Fields, ignored: Policy.Ignored) => A, body: Fields.Fields): A {
    const decoded = decode(body, this.ignored)
    this.tellIgnored()
    return decoded
  }

  /** Names what was left out, as long as the head was not sent. */
  tellIgnored(): void {
    const told = this.ignored.told()
    if (told !== undefined) this.headers[Policy.header] = told
  }

  get headSent(): boolean {
    return this.response.headersSent
  }

  /** Leaves out fields of the body that have no effect, or refuses them. */
  ignore(names: ReadonlyArray<string>): void {
    if (names.length === 0) return
    for (const name of names) this.ignored.leaveOut(name)
    this.tellIgnored()
  }

  private head(status: number, extra: Headers): void {
    this.status = status
    this.response.writeHead(status, Object.assign(this.headers, extra))
  }

  /** Sends the status and headers of a stream. */
  stream(contentType: string): void {
    this.head(200, {
      "content-type": contentType,
      "cache-control": "no-cache, no-transform",
      "x-accel-buffering": "no"
    })
  }

  /** Whose share of what all clients share it uses: its key's, or its address's where there are no keys. */
  get owner(): string {
    return this.caller ?? this.request.socket.remoteAddress ?? ""
  }

  /** Takes out of an error what clients must not see. */
  leaving: (text: string) => string = (text) => text

  /** An error as the client is told of it. */
  leaves(problem: Problem.Problem): Problem.Problem {
    return { ...problem, message: this.leaving(problem.message), requestId: this.id }
  }

  private cutOff(code: string): void {
    this.account.error = code
    this.response.destroy()
  }

  /** `false` where the client is so slow that nothing more is to be written before `drained`. */
  write(text: string): boolean {
    if (this.left || this.response.write(text)) return true
    const { writableLength } = this.response
    this.hold(writableLength)
    return writableLength <= maxUnsent
  }
  /** What was written but not read yet counts for the client, until all of it is read. */
  private hold(bytes: number): void {
    if (this.left) return
    if (this.waiting === undefined) {
      this.waiting = new Unsent(this.owner, () => this.cutOff("client_too_slow"))
    }
    const { waiting } = this
    if (waiting.bytes === 0) this.response.once("drain", () => unsent.release(waiting))
    unsent.resize(waiting, bytes)
  }
  /** Also settles when the client leaves. */
  drained(): Promise<void> {
    return new Promise((resolve) => {
      if (this.left || !this.response.writableNeedDrain) resolve()
      else if (this.drainers === undefined) {
        this.drainers = [resolve]
        this.response.once("drain", () => this.wake())
      } else this.drainers.push(resolve)
    })
  }
  private wake(): void {
    const waiting = this.drainers
    if (waiting === undefined) return
    this.drainers = undefined
    for (const resolve of waiting) resolve()
  }

  end(text = ""): void {
    if (this.left) return
    if (text === "") this.response.end()
    else this.response.end(text)
  }

  send(status: number, contentType: string, text: string, extra: Headers = {}): void {
    if (this.left || this.response.headersSent) return
    // What is announced for a stream has no place behind a body of known length.
    delete this.headers["trailer"]
    const length = Buffer.byteLength(text)
    this.head(status, { "content-type": contentType, "content-length": length, ...extra })
    this.response.end(this.request.method === "HEAD" ? undefined : text)
    if (this.response.writableNeedDrain) this.hold(length)
  }
  json(value: unknown, status = 200, extra: Headers = {}): void {
    this.send(status, "application/json; charset=utf-8", JSON.stringify(value), extra)
  }

  /** Refuses the request. A body that has not been read is not waited for. */
  problem(problem: Problem.Problem): void {
    const { attempts } = problem
    this.account.error = problem.code ?? problem.type
    if (attempts !== undefined) this.account.attempts = attempts.length
    if (this.left || this.response.headersSent) return
    const named = this.leaves(problem)
    const headers: Headers = attempts === undefined ? {} : { "x-aicortex-attempts": attempts.length }
    if (problem.retryAfter !== undefined) headers["retry-after"] = Math.max(1, Math.ceil(problem.retryAfter / 1000))
    if (problem.status === 401) headers["www-authenticate"] = "Bearer"
    let { status } = problem
    let body: object
    if (this.surface === "openai") body = Problem.openAI(named)
    else if (this.surface === "ollama") {
      const text = noRoute[problem.code ?? ""]
      if (text !== undefined) {
        this.send(status, "text/plain", text, headers)
        return
      }
      body = Problem.ollama(OllamaWire.inWords(named, this.route, this.account.model))
    } else {
      body = Problem.anthropic(named)
      status = Problem.anthropicStatus(problem)
      headers["request-id"] = this.id
    }
    if (this.request.complete || (this.isSmall() && problem.status !== 408)) {
      this.json(body, status, headers)
      return
    }
    this.json(body, status, { ...headers, connection: "close" })
    this.linger()
  }

  /** Whether what may still come of the request is soon read; Node does so when the response is complete. */
  private isSmall(): boolean {
    const { headers } = this.request
    if (headers["transfer-encoding"] !== undefined || headers.expect !== undefined) return false
    return Number(headers["content-length"] ?? 0) <= smallBody
  }

  /** Reads what still comes of the request for a while, and then closes the connection. */
  linger(): void {
    const { request } = this
    let bytes = 0
    const over = () => request.destroy()
    const timer = setTimeout(over, lingerTime)
    timer.unref()
    request.on("data", (part: Buffer) => {
      bytes += part.length
      if (bytes > lingerBytes) over()
    })
    request.on("close", () => clearTimeout(timer))
    request.on("error", () => {})
    request.resume()
  }

  /** The body as a JSON object, or a refusal. */
  fields(max: number): Promise<Fields.Fields> {
    const type = this.request.headers["content-type"]
    // Ollama takes JSON under any name.
    if (this.surface !== "ollama" && type !== undefined && !/^application\/([\w.+-]*\+)?json\s*(;|$)/i.test(type)) {
      throw new Problem.Refusal(
        Problem.make(415, `The body must be application/json, not ${type.slice(0, 100)}.`, "unsupported_media_type")
      )
    }
    const coding = this.request.headers["content-encoding"]
    if (coding !== undefined && coding.toLowerCase() !== "identity") {
      throw new Problem.Refusal(
        Problem.make(415, `The body must not be compressed (${coding.slice(0, 100)}).`, "unsupported_content_encoding")
      )
    }
    let body: RequestBody
    return new Promise<Buffer>((resolve, reject) => {
      body = new RequestBody(this.owner, this.request, max, resolve, reject)
      this.reading = body
      body.read()
    }).then((bytes) => {
      if (bytes.length > heavyBytes || body.cost > heavyCost) return this.heavy(body, bytes)
      body.release()
      const began = performance.now()
      const fields = this.surface === "ollama" ? parseOllama(textOf(bytes), this.route) : parse(checkedText(bytes))
      this.own += performance.now() - began
      return fields
    })
  }

  /** Others have a turn between reading the text of a large body and reading what it says. */
  private async heavy(body: RequestBody, bytes: Buffer): Promise<Fields.Fields> {
    const piece = <A>(work: () => A): Promise<A> =>
      heavyWork.run(this.owner, () => {
        if (body.refusal !== undefined) throw body.refusal
        if (this.left) throw new Problem.Refusal(Problem.make(499, "The client has left."))
        const began = performance.now()
        const result = work()
        this.own += performance.now() - began
        return result
      })
    try {
      const ollama = this.surface === "ollama"
      const text = await piece(() => (ollama ? textOf(bytes) : checkedText(bytes)))
      return await piece(() => (ollama ? parseOllama(text, this.route) : parse(text)))
    } finally {
      body.release()
    }
  }
}

const wrong = (message: string): never => {
  throw new Problem.Refusal(Problem.make(400, message, "invalid_json"))
}

const textOf = (bytes: Buffer): string => (bytes.length === 0 ? "" : bytes.toString("utf8"))

const checkedText = (bytes: Buffer): string => (isUtf8(bytes) ? textOf(bytes) : wrong("The body is not valid UTF-8."))

const parse = (text: string): Fields.Fields => {
  if (text === "") wrong("The body is empty; it must be a JSON object.")
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    const reason = error instanceof Error ? error.message.replace(/,? ?"[\s\S]*$/, "").slice(0, 100) : ""
    wrong(`The body is not JSON: ${reason}`)
  }
  return Fields.isObject(value) ? value : wrong("The body must be a JSON object.")
}

/** Refuses in the words of Ollama's own reader. */
const parseOllama = (text: string, path: string): Fields.Fields => {
  if (text === "") return wrong("missing request body")
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    return wrong(OllamaWire.syntaxError(text, error instanceof Error ? error.message : ""))
  }
  return Fields.isObject(value) ? value : wrong(OllamaWire.notAnObject(path, value))
}
