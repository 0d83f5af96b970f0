/**
 * Several answers to one prompt in one HTTP request, for servers that support `n`.
 *
 * Each answer keeps its own failover: only answers that begin on the same server at the same time share an HTTP request.
 * If that request fails, each continues separately.
 */
import type { Finish, ResumeSupportCache, ServerFailure, Sink } from "../Backend.js"
import type { Usage } from "../ChatEvent.js"
import type { ChatRequest, Choice } from "../ChatRequest.js"
import type { Server } from "../Server.js"
import type { Exchange } from "../Transport.js"
import * as Http from "./http.js"
import { AnswerDecoder, type Chunk, type Kind } from "./openaiAnswer.js"
import { isRejection } from "./resumeSupport.js"

/** Decodes one of the answers. */
class ChoiceDecoder extends AnswerDecoder {
  /** Approximate length of the text so far. */
  weight = 0
  private sharedPrompt = false

  get begun(): boolean {
    return this.chosen
  }
  /** Whether its finish reason was received. */
  get ended(): boolean {
    return this.reason !== undefined
  }

  choose(chunk: Chunk, choice: Chunk): void {
    const delta = choice["delta"] ?? choice["message"] ?? choice
    for (const part of Object.values(delta as Chunk)) {
      if (typeof part === "string") this.weight += part.length
      else if (Array.isArray(part)) this.weight += JSON.stringify(part).length
    }
    this.takeChoices(chunk, [choice], "")
  }

  /** Ends this answer. */
  conclude(usage: Usage, sharedPrompt: boolean, broken: boolean): void {
    this.reason ??= "stop"
    this.counted = usage
    this.sharedPrompt = sharedPrompt
    this.broken = broken
    this.complete()
  }

  protected override tell(finish: Finish): void {
    super.tell(this.sharedPrompt ? { ...finish, sharedPrompt: true } : finish)
  }
}

/** The attempt of one answer. */
class Member implements Exchange {
  /** - `over`: it has ended; `alone`: it has its own HTTP request */
  state: "shared" | "concluded" | "alone" | "over" = "shared"
  paused = false
  together: Together | undefined
  private own: Exchange | undefined

  constructor(
    readonly request: ChatRequest,
    readonly index: number,
    readonly sink: Sink,
    readonly decoder: ChoiceDecoder
  ) {}

  alone(exchange: Exchange): void {
    this.own = exchange
  }
  abort(): void {
    if (this.state === "alone") this.own?.abort()
    else {
      this.state = "over"
      this.together?.left()
    }
  }
  pause(): void {
    this.paused = true
    if (this.state === "alone") this.own?.pause()
    else this.together?.held()
  }
  resume(): void {
    this.paused = false
    if (this.state === "alone") this.own?.resume()
    else this.together?.held()
  }
}

/** Splits a token count by weight into integers that add up to it. */
const shares = (total: number, weights: ReadonlyArray<number>): ReadonlyArray<number> => {
  const all = weights.reduce((sum, weight) => sum + weight, 0)
  let before = 0
  let sum = 0
  return weights.map((weight) => {
    sum += weight
    const upTo = all === 0 ? 0 : Math.floor((total * sum) / all)
    const share = upTo - before
    before = upTo
    return share
  })
}

/** Splits the total usage among the answers. */
const usages = (
  { cachedTokens, completionTokens, promptTokens, reasoningTokens }: Usage,
  weights: ReadonlyArray<number>
): ReadonlyArray<Usage> => {
  const written = completionTokens === undefined ? undefined : shares(completionTokens, weights)
  const thought = reasoningTokens === undefined ? undefined : shares(reasoningTokens, weights)
  return weights.map((_, i) => {
    const completion = written?.[i]
    const reasoning = thought?.[i]
    return {
      ...(promptTokens === undefined ? {} : { promptTokens }),
      ...(completion === undefined ? {} : { completionTokens: completion }),
      ...(promptTokens === undefined || completion === undefined ? {} : { totalTokens: promptTokens + completion }),
      ...(cachedTokens === undefined ? {} : { cachedTokens }),
      ...(reasoning === undefined ? {} : { reasoningTokens: Math.min(reasoning, completion ?? reasoning) })
    }
  })
}

/** A server of unknown `n` support that sends this many pieces of the first choice alone does not support it. */
const aloneAtMost = 16

/** Error messages of servers that reject `n` above one. */
const aboutN = /(^|[^\w.])n(_cmpl)?([^\w.]|$)|\bchoices?\b/i

const isObject = (value: unknown): value is Chunk =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** The shared HTTP request: it dispatches the chunks to the answers. */
class Together extends AnswerDecoder implements Http.Listener {
  readonly context: Sink["context"]
  exchange: Exchange | undefined
  private taken = false
  private aloneFor = 0

  constructor(
    private readonly members: ReadonlyArray<Member>,
    first: Member,
    private readonly ways: {
      readonly takesN: () => boolean | undefined
      readonly setTakesN: (takes: boolean) => void
      readonly separate: (member: Member) => void
    },
    kind: Kind
  ) {
    super(first.sink, kind)
    this.context = first.sink.context
    for (const member of members) member.together = this
  }

  // ---------------------------------------------------------------------------
  // used by the answers
  // ---------------------------------------------------------------------------

  /** One of the answers is cancelled. */
  left(): void {
    if (!this.members.some(({ state }) => state === "shared" || state === "concluded")) this.exchange?.abort()
  }

  /** Back-pressure applies only when no answer has room: an answer with room must not appear to stall. */
  held(): void {
    const reading = this.members.filter(({ state }) => state === "shared")
    if (reading.length > 0 && reading.every(({ paused }) => paused)) this.exchange?.pause()
    else this.exchange?.resume()
  }

  // ---------------------------------------------------------------------------
  // signs of life
  // ---------------------------------------------------------------------------

  connected(): void {
    for (const { sink, state } of this.members) if (state === "shared") sink.connected()
  }

  read(): void {
    for (const { sink, state } of this.members) if (state === "shared") sink.read()
  }

  flush(): void {
    for (const member of this.members) {
      if (member.state === "concluded") member.state = "over"
      // A piece of another answer shows that the server is working.
      else if (member.state !== "shared") continue
      else if (member.decoder.begun) member.sink.progress?.()
      member.sink.flush()
    }
  }

  fail(failure: ServerFailure): void {
    const live = this.members.filter(({ state }) => state === "shared" || state === "concluded")
    if (isRejection(failure) && !this.chosen) {
      if (aboutN.test(failure.message)) this.ways.setTakesN(false)
      for (const member of live) this.ways.separate(member)
      return
    }
    for (const member of live) this.drop(member, failure)
  }

  private drop(member: Member, failure: ServerFailure): void {
    member.state = "over"
    member.sink.fail(failure)
  }

  // ---------------------------------------------------------------------------
  // received chunks
  // ---------------------------------------------------------------------------

  protected override takeChoices(chunk: Chunk, choices: ReadonlyArray<unknown>): void {
    for (const choice of choices) {
      if (!isObject(choice)) continue
      const index = typeof choice["index"] === "number" ? choice["index"] : 0
      const member = this.members[index]
      if (index > 0 && member !== undefined && !this.taken) {
        this.taken = true
        this.ways.setTakesN(true)
      }
      if (member?.state !== "shared") continue
      this.chosen = true
      this.totalled = false
      try {
        member.decoder.choose(chunk, choice)
      } catch (error) {
        this.drop(member, Http.failureOf(error))
      }
    }
    const live = this.members.filter(({ state }) => state === "shared")
    if (live.length > 0 && live.every(({ decoder }) => decoder.ended)) this.reason = "stop"
    if (!this.taken && this.ways.takesN() === undefined && ++this.aloneFor >= aloneAtMost) this.separateOthers()
  }

  protected override complete(): void {
    if (this.over) return
    const { broken, counted, early, members } = this
    const ended = this.reason !== undefined
    const each = usages(
      counted,
      members.map(({ decoder }) => decoder.weight)
    )
    let reported = false
    for (const [i, member] of members.entries()) {
      const { decoder, state } = member
      if (state !== "shared" || !(decoder.ended || (ended && decoder.begun))) continue
      member.state = "concluded"
      try {
        decoder.conclude(each[i] ?? {}, reported, broken || early)
        reported = true
      } catch (error) {
        this.drop(member, Http.failureOf(error))
      }
    }
    if (reported && !broken) this.separateOthers()
    this.over = !members.some(({ state }) => state === "shared")
  }

  /** The server ignores `n`. */
  private separateOthers(): void {
    for (const member of this.members) {
      if (member.state !== "shared" || member.decoder.begun) continue
      this.ways.setTakesN(false)
      this.ways.separate(member)
    }
  }
}

/** How requests are sent. `sinkOf` makes the decoder in front of a sink; `kindOf` gives the endpoint. */
export interface Senders {
  readonly plain: (server: Server, request: ChatRequest, sink: Sink) => Exchange
  readonly together: (
    server: Server,
    request: ChatRequest,
    n: number,
    answers: Http.Decoder & Http.Listener
  ) => Exchange
  readonly sinkOf: (request: ChatRequest, sink: Sink) => Sink
  readonly kindOf: (request: ChatRequest) => Kind
}

interface Group {
  readonly of: object
  readonly server: Server
  readonly request: ChatRequest
  readonly members: Array<Member>
}

/** With a seed, the `n` answers use consecutive seeds. */
const runs = (members: ReadonlyArray<Member>): ReadonlyArray<ReadonlyArray<Member>> => {
  const sorted = [...members].sort((a, b) => a.index - b.index)
  const found: Array<Array<Member>> = []
  for (const member of sorted) {
    const run = found.at(-1)
    const before = run?.at(-1)
    const follows = before !== undefined && (member.request.seed === undefined || member.index === before.index + 1)
    if (run !== undefined && follows) run.push(member)
    else found.push([member])
  }
  return found
}

/**
 * Combines the answers to one prompt that begin on the same server at the same time into one HTTP request. If a server
 * ignores or rejects `n`, the other answers are requested separately, and that is remembered.
 */
export class Gathering {
  private groups: Array<Group> = []

  constructor(private readonly senders: Senders) {}

  start(
    server: Server,
    request: ChatRequest,
    { index, of }: Choice,
    sink: Sink,
    resumeSupport: ResumeSupportCache
  ): Exchange {
    const { url } = server
    const { messages, model } = request
    const { kindOf, plain, sinkOf } = this.senders
    if (resumeSupport.takesN(url, model) === false) return plain(server, request, sink)
    const member = new Member(request, index, sink, new ChoiceDecoder(sinkOf(request, sink), kindOf(request)))
    const group = this.groups.find(
      (group) =>
        group.of === of &&
        group.server.url === url &&
        group.request.model === model &&
        group.request.messages === messages
    )
    if (group !== undefined) group.members.push(member)
    else {
      const begun: Group = { of, server, request, members: [member] }
      this.groups.push(begun)
      queueMicrotask(() => {
        this.groups = this.groups.filter((other) => other !== begun)
        for (const run of runs(begun.members.filter(({ state }) => state === "shared"))) {
          this.send(server, run, resumeSupport)
        }
      })
    }
    return member
  }

  private send(server: Server, members: ReadonlyArray<Member>, resumeSupport: ResumeSupportCache): void {
    const { kindOf, plain, together } = this.senders
    const [first] = members
    if (first === undefined) return
    const separate = (member: Member): void => {
      member.state = "alone"
      member.alone(plain(server, member.request, member.sink))
    }
    if (members.length === 1) {
      separate(first)
      return
    }
    const { request } = first
    const ways = {
      takesN: () => resumeSupport.takesN(server.url, request.model),
      setTakesN: (takes: boolean) => resumeSupport.setTakesN(server.url, request.model, takes),
      separate
    }
    const answers = new Together(members, first, ways, kindOf(request))
    answers.exchange = together(server, request, members.length, answers)
  }
}
