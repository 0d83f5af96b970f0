/**
 * What each server was seen to do when it is asked to go on with an answer that broke: tried once per server and
 * model, at the first resume there, and remembered.
 *
 * Servers do one of three things with an assistant message at the end of a conversation: they go on with it, they say
 * it again and then go on, or they close it and answer anew. From the text of a resumed answer alone the first and
 * the last cannot be told apart (a text may well repeat its own beginning, and a new answer may begin in other words),
 * and a wrong guess would give out nonsense. So a server that has not been tried yet is first asked something whose
 * continuation is certain.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type {
  Finish,
  ResumeSupport,
  ServerFailure,
  ResumeSupportCache as Service,
  Sink,
  TrialListener
} from "../Backend.js"
import type { ChatRequest } from "../ChatRequest.js"
import * as Message from "../Message.js"
import type { Exchange } from "../Transport.js"

/**
 * @since 0.1.0
 * @category tags
 */
export class ResumeSupports extends Context.Tag("aicortex/Abilities")<ResumeSupports, Service>() {}

// =============================================================================
// the trial
// =============================================================================

/** The list's third line must follow. It ends with white space, to see whether that is kept. */
const begun = "1. Python\n2. JavaScript\n"

const conversation: ReadonlyArray<Message.Message> = [
  Message.user("List programming languages (one per line):"),
  Message.assistant(begun)
]

/** Fewer tokens than the partial answer has: who gives the whole of it in so few has not written it, but read it. */
const trialTokens = 4

/**
 * The request that shows what a server does with an answer that was begun.
 *
 * @since 0.1.0
 * @category constructors
 */
export const trialRequest = (request: ChatRequest): ChatRequest => ({
  model: request.model,
  messages: conversation,
  temperature: 0,
  topP: 1,
  maxTokens: trialTokens,
  stop: [],
  seed: undefined,
  frequencyPenalty: undefined,
  presencePenalty: undefined,
  topK: undefined,
  minP: undefined,
  repeatPenalty: undefined,
  tools: [],
  toolChoice: undefined,
  keepAlive: request.keepAlive,
  think: request.think,
  options: undefined,
  format: "text"
})

/**
 * What the reply to `trialRequest` shows. Where it is not certain that the server goes on, it is taken to begin anew:
 * then its text is watched, and never wrongly joined.
 *
 * @since 0.1.0
 * @category accessors
 */
export const classifyReply = (reply: string): ResumeSupport =>
  reply.startsWith("3")
    ? "continues"
    : reply.startsWith(begun.trimEnd())
      ? "echoes"
      : /^\s*3/.test(reply)
        ? "trims"
        : "restarts"

/**
 * Whether a failure says that the server does not take this request, rather than that it is in trouble. A template
 * that cannot go on with an assistant message fails with 400 or 500.
 *
 * @since 0.1.0
 * @category accessors
 */
export const isRejection = ({ reason, status }: ServerFailure): boolean =>
  reason === "invalid-request" ||
  reason === "unsupported" ||
  (reason === "server-error" && (status === 500 || status === 404))

class Trial implements Sink {
  readonly listeners = new Set<TrialListener>()
  exchange: Exchange | undefined
  private reply = ""
  private isConnected = false
  private finished = false
  private over = false

  constructor(private readonly ended: (support: ResumeSupport | undefined) => void) {}

  join(listener: TrialListener): Exchange {
    this.listeners.add(listener)
    if (this.isConnected) listener.connected()
    return {
      abort: () => {
        this.listeners.delete(listener)
        if (this.listeners.size > 0 || this.over) return
        this.over = true
        this.ended(undefined)
        this.exchange?.abort()
      },
      pause: () => {},
      resume: () => {}
    }
  }

  connected(): void {
    this.isConnected = true
    for (const listener of this.listeners) listener.connected()
  }
  read(): void {
    for (const listener of this.listeners) listener.read()
  }
  text(content: string): void {
    this.reply += content
  }
  thinking(): void {}
  toolCall(): void {}
  finish(_finish: Finish): void {
    this.finished = true
  }
  flush(): void {
    if (this.finished) this.settle(classifyReply(this.reply), true)
  }
  fail(failure: ServerFailure): void {
    // A 500 may also be trouble of the moment: it is not remembered.
    if (isRejection(failure)) this.settle("restarts", failure.reason !== "server-error")
    else this.settle(failure, false)
  }

  private settle(outcome: ResumeSupport | ServerFailure, remember: boolean): void {
    if (this.over) return
    this.over = true
    const listeners = [...this.listeners]
    this.listeners.clear()
    if (typeof outcome === "string") {
      this.ended(remember ? outcome : undefined)
      for (const listener of listeners) listener.shown(outcome)
    } else {
      this.ended(undefined)
      for (const listener of listeners) listener.fail(outcome)
    }
  }
}

// =============================================================================
// service
// =============================================================================

const nothing: Exchange = { abort: () => {}, pause: () => {}, resume: () => {} }

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = (): Service => {
  const known = new Map<string, Map<string, ResumeSupport>>()
  const rendering = new Map<string, Map<string, boolean>>()
  const several = new Map<string, Map<string, boolean>>()
  const trials = new Map<string, Trial>()

  const set = <A>(map: Map<string, Map<string, A>>, url: string, model: string, value: A): void => {
    const models = map.get(url)
    if (models === undefined) map.set(url, new Map([[model, value]]))
    else models.set(model, value)
  }

  return {
    support: (url, model, start, listener) => {
      const support = known.get(url)?.get(model)
      if (support !== undefined) {
        listener.shown(support)
        return nothing
      }
      const key = `${url} ${model}`
      const running = trials.get(key)
      if (running !== undefined) return running.join(listener)
      const trial = new Trial((shown) => {
        if (trials.get(key) === trial) trials.delete(key)
        if (shown !== undefined) set(known, url, model, shown)
      })
      trials.set(key, trial)
      const place = trial.join(listener)
      trial.exchange = start(trial)
      return place
    },
    renders: (url, model) => rendering.get(url)?.get(model),
    setRenders: (url, model, renders) => set(rendering, url, model, renders),
    takesN: (url, model) => several.get(url)?.get(model),
    setTakesN: (url, model, takes) => set(several, url, model, takes),
    forget: (url) => {
      known.delete(url)
      rendering.delete(url)
      several.delete(url)
    },
    clear: Effect.sync(() => {
      known.clear()
      rendering.clear()
      several.clear()
    })
  }
}

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<ResumeSupports> = Layer.sync(ResumeSupports, make)
