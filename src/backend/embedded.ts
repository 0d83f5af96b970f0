/**
 * Runs the built-in model in this process, through `node-llama-cpp`, which is loaded at the first request.
 *
 * One model instance answers one request after another, in order of arrival.
 */

import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { GbnfJsonObjectSchema, LlamaGrammar, LlamaModel, Token } from "node-llama-cpp"
import type { Backend, Finish, ServerFailure, Sink } from "../Backend.js"
import { type ChatRequest, completes, defaults, promptOf } from "../ChatRequest.js"
import type { Unsupported } from "../Errors.js"
import * as ExtraParameters from "../internal/extraParameters.js"
import { grammarSchema } from "../internal/grammarSchema.js"
import * as UnsupportedOptions from "../internal/unsupported.js"
import * as Message from "../Message.js"
import { instruction } from "../StructuredOutput.js"
import { describe, type Engine, type EngineOptions, LoadFailure, loadEngine } from "./embeddedEngine.js"
import { continuable, continuationRequest, openEnded, repeats, wellFormed } from "./resume.js"
import { makeStopFilter } from "./stopFilter.js"

// =============================================================================
// Models
// =============================================================================

/** What a loaded model turned out to be. */
export interface EmbeddedModel {
  /** Tokens of context of each request. */
  readonly context_length: number
}

/** How a model is run. What is left out suits the built-in model. */
export interface EmbeddedOptions extends EngineOptions {
  /** A GGUF file with a ChatML chat template; default: the built-in model of this package. */
  readonly modelPath?: string | undefined
  /** Embeddings of texts instead of answers. */
  readonly embeddings?: boolean | undefined
  /** The model is loaded at once, not at the first request; one of these is called then. */
  readonly preload?:
    | {
        readonly loaded: (model: EmbeddedModel) => void
        readonly failed: (failure: ServerFailure) => void
      }
    | undefined
}

/**
 * A loaded engine. `close` fails the requests in progress and frees the model; a process that does not call it still
 * exits.
 */
export interface EmbeddedBackend {
  readonly backend: Backend
  readonly close: () => Promise<void>
}

/** The path of the built-in model. */
export const defaultModelPath = (): string => {
  const file = "registry/demo/aicortex-demo.gguf"
  for (const up of ["../../", "../", "../../../"]) {
    const path = fileURLToPath(new URL(up + file, import.meta.url))
    if (existsSync(path)) return path
  }
  return fileURLToPath(new URL(`../../${file}`, import.meta.url))
}

// =============================================================================
// Requests
// =============================================================================

const noEmbeddings: Unsupported = {
  field: "model",
  reason: "the built-in model makes no embeddings; name a model of one of your servers"
}

const noTools = "the embedded engine cannot call tools"

const unsupported = (request: ChatRequest): ReadonlyArray<Unsupported> => {
  const reasons: Array<Unsupported> = []
  if (request.tools.length > 0) reasons.push({ field: "tools", reason: `${noTools}` })
  if (request.toolChoice !== undefined && request.toolChoice !== "auto" && request.toolChoice !== "none") {
    reasons.push({ field: "toolChoice", reason: `${noTools}` })
  }
  if (request.messages.some((m) => m.role === "tool" || (m.role === "assistant" && (m.toolCalls ?? []).length > 0))) {
    reasons.push({ field: "messages", reason: `${noTools}` })
  }
  if (request.messages.some((m) => Message.images(m).length > 0)) {
    reasons.push({ field: "messages", reason: "the embedded engine cannot see images" })
  }
  if (request.logprobs !== undefined)
    reasons.push({ field: "logprobs", reason: "the embedded engine does not report them" })
  if (request.logitBias !== undefined)
    reasons.push({ field: "logitBias", reason: "the embedded engine has no such option" })
  reasons.push(...ExtraParameters.refusals(request.extra, "other", "the embedded engine"))
  if (request.keepAlive !== undefined && request.lenient !== true) {
    reasons.push({ field: "keepAlive", reason: "the embedded model stays loaded as long as its process" })
  }
  if (request.options !== undefined && request.lenient !== true && Object.keys(request.options).length > 0) {
    reasons.push({ field: "options", reason: "these are Ollama's own" })
  }
  if (request.think !== undefined && request.think !== false) {
    reasons.push({ field: "think", reason: "the embedded model does not reason" })
  }
  if (request.template !== undefined) reasons.push({ field: "template", reason: "the embedded model has its own" })
  if (request.suffix !== undefined)
    reasons.push({ field: "suffix", reason: "the embedded model cannot fill in the middle" })
  const last = request.messages.at(-1)
  if (request.format !== "text" && last?.role === "assistant" && last.content !== "") {
    reasons.push({ field: "format", reason: "the embedded engine cannot go on with JSON that was begun elsewhere" })
  }
  return reasons
}

const render = (model: LlamaModel, request: ChatRequest): Array<Token> => {
  const { messages } = request
  const tokens: Array<Token> = []
  if (model.tokens.shouldPrependBosToken && model.tokens.bos !== null) tokens.push(model.tokens.bos)
  // A raw prompt may contain special tokens.
  if (request.raw === true) return [...tokens, ...model.tokenize(promptOf(request), true)]
  const open = model.tokenize("<|im_start|>", true)
  const close = [...model.tokenize("<|im_end|>", true), ...model.tokenize("\n")]
  messages.forEach((message, i) => {
    const role = message.role === "developer" ? "system" : message.role
    // A grammar enforces JSON; instructions for it only confuse a model this small.
    const text = Message.text(message)
    const rest = role === "system" && text.endsWith(instruction) ? text.slice(0, -instruction.length).trimEnd() : text
    if (role === "system" && rest === "") return
    tokens.push(...open, ...model.tokenize(`${role}\n${rest}`))
    // A trailing assistant message is left open, so that the model continues it.
    if (message.role !== "assistant" || i < messages.length - 1) tokens.push(...close)
  })
  if (messages.at(-1)?.role !== "assistant") tokens.push(...open, ...model.tokenize("assistant\n"))
  return tokens
}

const penalties = (request: ChatRequest, generated: ReadonlyArray<Token>) => {
  const { frequencyPenalty, presencePenalty, repeatPenalty } = request
  if ((frequencyPenalty ?? 0) === 0 && (presencePenalty ?? 0) === 0 && (repeatPenalty ?? 1) === 1) return {}
  const window = 64
  return {
    repeatPenalty: {
      punishTokens: () => generated.slice(-window),
      maxPunishTokens: window,
      penalty: repeatPenalty ?? 1,
      frequencyPenalty: frequencyPenalty ?? 0,
      presencePenalty: presencePenalty ?? 0
    }
  }
}

const replacement = "\uFFFD"
/** More tokens than any character takes. */
const maxPartial = 8

interface Job {
  readonly request: ChatRequest
  /** Nothing more may be emitted: it has ended, or was aborted. */
  readonly over: () => boolean
  readonly connected: () => void
  readonly push: (text: string) => void
  readonly finish: (finish: Finish) => void
  readonly fail: (failure: ServerFailure) => void
  readonly abort: () => void
  readonly pause: () => void
  readonly resume: () => void
}

/** While a reader is paused the engine continues, so that one slow reader never blocks the queue. */
const makeJob = (request: ChatRequest, sink: Sink): Job => {
  let text = ""
  let end: { readonly finish?: Finish; readonly failure?: ServerFailure } | undefined
  let reported = false
  let paused = false

  const drain = (): void => {
    if (reported || paused || (text === "" && end === undefined)) return
    const content = text
    text = ""
    reported = end !== undefined
    if (content !== "" || end?.finish !== undefined) {
      sink.read()
      if (content !== "") sink.text(content)
      if (end?.finish !== undefined) sink.finish(end.finish)
      sink.flush()
    }
    if (end?.failure !== undefined) sink.fail(end.failure)
  }
  return {
    request,
    over: () => reported || end !== undefined,
    connected: () => {
      if (!reported) sink.connected()
    },
    push: (content) => {
      if (end === undefined) text += content
      drain()
    },
    finish: (finish) => {
      end ??= { finish }
      drain()
    },
    fail: (failure) => {
      end ??= { failure }
      drain()
    },
    abort: () => {
      reported = true
    },
    pause: () => {
      paused = true
    },
    resume: () => {
      paused = false
      drain()
    }
  }
}

const createGrammar = async (engine: Engine, format: ChatRequest["format"]): Promise<LlamaGrammar | undefined> => {
  if (format === "text") return undefined
  return format === "json" ? engine.json() : engine.schema(grammarSchema(format) as GbnfJsonObjectSchema)
}

const generate = async (engine: Engine, job: Job): Promise<void> => {
  const { model, sequence } = engine
  const { request } = job
  const prompt = render(model, request)
  const space = sequence.contextSize - prompt.length
  if (space < 1) {
    const limit = `the model's context holds ${sequence.contextSize}`
    const what = request.raw === true ? "text" : "conversation"
    const message = `the ${what} is ${prompt.length} tokens long and ${limit}; shorten it`
    return job.fail({ reason: "invalid-request", message })
  }
  let grammar: LlamaGrammar | undefined
  try {
    grammar = await createGrammar(engine, request.format)
  } catch (cause) {
    const message = `the schema cannot be made a grammar: ${describe(cause)}`
    return job.fail({ reason: "invalid-request", message })
  }
  // Each answer has an empty context: it never depends on earlier requests.
  await sequence.clearHistory()

  const limit = Math.min(request.maxTokens ?? space, space)
  // The grammars end with empty lines, which occur nowhere else in them.
  const filter = makeStopFilter(grammar === undefined ? request.stop : [...request.stop, "\n\n"])
  const generated: Array<Token> = []
  let partial: Array<Token> = []
  let firstAt = 0
  let reason: Finish["reason"] = "stop"
  const answer = sequence.evaluate(prompt.slice(), {
    temperature: request.temperature ?? defaults.temperature,
    topP: request.topP ?? defaults.topP,
    topK: request.topK ?? 40,
    minP: request.minP ?? 0,
    seed: request.seed === undefined ? randomSeed() : request.seed >>> 0,
    ...penalties(request, generated),
    ...(grammar === undefined ? {} : { grammarEvaluationState: engine.grammarState(grammar) }),
    yieldEogToken: true
  })
  for await (const token of answer) {
    if (job.over()) return
    if (firstAt === 0) firstAt = performance.now()
    if (model.isEogToken(token)) break
    partial.push(token)
    generated.push(token)
    const before = generated.length - partial.length
    const context = before === 0 ? prompt : generated.slice(0, before)
    const text = model.detokenize(partial, false, context)
    if (!text.endsWith(replacement) || partial.length >= maxPartial) {
      partial = []
      job.push(filter.push(text))
      if (filter.stopped() !== undefined) break
    }
    if (generated.length >= limit) {
      reason = "length"
      break
    }
  }
  const seconds = (performance.now() - firstAt) / 1000
  const completionTokens = generated.length
  job.push(filter.rest())
  const stopSequence = filter.stopped()
  job.finish({
    reason,
    ...(stopSequence !== undefined && request.stop.includes(stopSequence) ? { stopSequence } : {}),
    usage: { promptTokens: prompt.length, completionTokens, totalTokens: prompt.length + completionTokens },
    ...(completionTokens > 1 && seconds > 0 ? { tokensPerSecond: (completionTokens - 1) / seconds } : {})
  })
}

const failureOf = (cause: unknown): ServerFailure =>
  cause instanceof LoadFailure ? cause.failure : { reason: "engine", message: `the engine failed: ${describe(cause)}` }

const randomSeed = (): number => globalThis.crypto.getRandomValues(new Uint32Array(1))[0] ?? 0

export const make = (options: EmbeddedOptions = {}): EmbeddedBackend => {
  const queue: Array<Job> = []
  let current: Job | undefined
  let running: Promise<void> | undefined
  let loading: Promise<Engine> | undefined
  let closed = false

  const load = (): Promise<Engine> => {
    loading ??= loadEngine(options.modelPath ?? defaultModelPath(), options).catch((cause) => {
      loading = undefined
      throw cause
    })
    return loading
  }

  const run = async (job: Job): Promise<void> => {
    try {
      const engine = await load()
      if (!job.over()) await generate(engine, job)
    } catch (cause) {
      job.fail(failureOf(cause))
    }
  }

  const work = async (): Promise<void> => {
    // The caller gets its exchange before its sink is called.
    await Promise.resolve()
    for (current = queue.shift(); current !== undefined; current = queue.shift()) await run(current)
    running = undefined
  }

  const { preload } = options
  if (preload !== undefined) {
    load().then(
      (engine) => preload.loaded({ context_length: engine.sequence.contextSize }),
      (cause) => preload.failed(failureOf(cause))
    )
  }

  const closedFailure: ServerFailure = { reason: "engine", message: "the embedded engine has been closed" }

  const start: Backend["start"] = (_server, request, sink) => {
    const job = makeJob(request, sink)
    if (closed) {
      queueMicrotask(() => job.fail(closedFailure))
    } else {
      queueMicrotask(() => job.connected())
      queue.push(job)
      running ??= work()
    }
    return {
      abort: () => {
        job.abort()
        const at = queue.indexOf(job)
        if (at >= 0) queue.splice(at, 1)
      },
      pause: () => job.pause(),
      resume: () => job.resume()
    }
  }

  return {
    backend: {
      unsupported,
      cannotEmbed: () => [noEmbeddings],
      embed: (_server, _request, sink) => {
        sink.fail(UnsupportedOptions.failure([noEmbeddings]))
        return { abort() {}, pause() {}, resume() {} }
      },
      start,
      // A trailing assistant message is left open here, so the model always continues from the exact place.
      resume: (server, request, broken, sink) => {
        if (completes(request)) return start(server, continuationRequest(request, broken, sink), sink)
        const sent = wellFormed(broken.text)
        if (!continuable(request) || sent === "") {
          sink.joins(broken.text, broken.tokens, "restarts")
          return start(server, request, sink)
        }
        const repeated = repeats(broken.text, sent)
        sink.joins(broken.text.slice(sent.length), repeated, "continues")
        return start(server, openEnded(request, sent, { ...broken, tokens: broken.tokens - repeated }), sink)
      }
    },
    close: async () => {
      closed = true
      const jobs = current === undefined ? queue.splice(0) : [current, ...queue.splice(0)]
      for (const job of jobs) job.fail(closedFailure)
      await running
      const engine = loading
      loading = undefined
      await engine?.then((loaded) => loaded.dispose())
    }
  }
}

/** An engine that is closed with its scope. Nothing is loaded before the first request. */
export const scoped = (options: EmbeddedOptions = {}): Effect.Effect<Backend, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => make(options)),
    (embedded) => Effect.promise(embedded.close)
  ).pipe(Effect.map((embedded) => embedded.backend))
