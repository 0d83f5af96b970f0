/**
 * How each server resumes a broken answer: determined by a trial, once per server and model at the first resume there,
 * and remembered.
 *
 * Servers do one of three things with a trailing assistant message: continue it, repeat it and then continue, or close
 * it and answer from the start. From the resumed text alone the first and the last cannot be distinguished (a text may
 * repeat its own beginning, and a new answer may start in other words), and a wrong guess would produce nonsense. So an
 * untested server is first given a text whose continuation is certain.
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

export class ResumeSupports extends Context.Tag("aicortex/ResumeSupports")<ResumeSupports, Service>() {}

// =============================================================================
// The trial
// =============================================================================

/** The list's third line must follow. It ends with white space, to see whether that is preserved. */
const begun = "1. Python\n2. JavaScript\n"

const conversation: ReadonlyArray<Message.Message> = [
  Message.user("List programming languages (one per line):"),
  Message.assistant(begun)
]

/** Fewer tokens than the partial answer: a reply containing all of it was not generated but echoed. */
const trialTokens = 4

/** The request that shows what a server does with a partial answer. */
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
 * Classifies the reply to `trialRequest`. Unless the server certainly continues, it is assumed to restart: then its
 * text is matched, and never joined wrongly.
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
 * Whether a failure means that the server rejects this request, rather than being in trouble. A template that cannot
 * continue an assistant message fails with 400 or 500.
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
    // A 500 may also be temporary trouble: it is not remembered.
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
// Service
// =============================================================================

const nothing: Exchange = { abort: () => {}, pause: () => {}, resume: () => {} }

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

export const layer: Layer.Layer<ResumeSupports> = Layer.sync(ResumeSupports, make)
