/**
 * Runs a model in this process, through `node-llama-cpp`, which is loaded at the first request.
 *
 * Several requests are answered at the same time, each in a sequence of one context; further ones wait.
 */

import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Backend, ServerFailure } from "../Backend.js"
import { type ChatRequest, completes } from "../ChatRequest.js"
import type { EmbedRequest } from "../EmbedRequest.js"
import type { Unsupported } from "../Errors.js"
import * as ExtraParameters from "../internal/extraParameters.js"
import * as UnsupportedOptions from "../internal/unsupported.js"
import * as Message from "../Message.js"
import { answer } from "./embeddedAnswer.js"
import { type Engine, loadEngine } from "./embeddedEngine.js"
import type { EngineOptions } from "./embeddedEngineOptions.js"
import { Job } from "./embeddedJob.js"
import { describe, LoadFailure } from "./embeddedLibrary.js"
import { defaultModelPath } from "./embeddedModel.js"
import { embed } from "./embeddedVectors.js"
import { continuable, continuationRequest, openEnded, repeats, wellFormed } from "./resume.js"

export { defaultModelPath } from "./embeddedModel.js"

// =============================================================================
// Models
// =============================================================================

/** What a loaded model turned out to be. */
export interface EmbeddedModel {
  /** Tokens of context of each request. */
  readonly context_length: number
  /** What it can do. */
  readonly capabilities: ReadonlyArray<string>
}

/** How a model is run. What is left out suits the built-in model. */
export interface EmbeddedOptions extends EngineOptions {
  /** A GGUF file; default: the built-in model of this package. */
  readonly modelPath?: string | undefined
  /** A model that is being loaded already; one of these is called then. Default: it is loaded at the first request. */
  readonly preload?:
    | {
        /** What `loadEngine` gives: its type names `node-llama-cpp`, which not every program has. */
        readonly engine: Promise<unknown>
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

// =============================================================================
// What it cannot do
// =============================================================================

const noEmbeddings: Unsupported = {
  field: "model",
  reason: "the built-in model makes no embeddings; name a model of one of your servers"
}

const noVectors: Unsupported = {
  field: "model",
  reason: "this engine answers chats; `aicortex engine --embeddings` makes embeddings"
}

const onlyEmbeddings: Unsupported = { field: "model", reason: "this engine makes embeddings only" }

const noTools = "the built-in model was not trained to call tools"

/** What the built-in model cannot do, beyond what the engine cannot. */
const unableBuiltIn = (request: ChatRequest): ReadonlyArray<Unsupported> => {
  const reasons: Array<Unsupported> = []
  if (request.tools.length > 0) reasons.push({ field: "tools", reason: noTools })
  if (request.toolChoice !== undefined && request.toolChoice !== "auto" && request.toolChoice !== "none") {
    reasons.push({ field: "toolChoice", reason: noTools })
  }
  if (request.messages.some((m) => m.role === "tool" || (m.role === "assistant" && (m.toolCalls ?? []).length > 0))) {
    reasons.push({ field: "messages", reason: noTools })
  }
  if (request.think !== undefined && request.think !== false) {
    reasons.push({ field: "think", reason: "the built-in model does not reason" })
  }
  if (request.suffix !== undefined) {
    reasons.push({ field: "suffix", reason: "the built-in model cannot fill in the middle" })
  }
  return reasons
}

const unable = (request: ChatRequest): ReadonlyArray<Unsupported> => {
  const reasons: Array<Unsupported> = []
  if (request.messages.some((m) => Message.images(m).length > 0)) {
    reasons.push({ field: "messages", reason: "the embedded engine cannot see images" })
  }
  reasons.push(...ExtraParameters.refusals(request.extra, "other", "the embedded engine"))
  if (request.keepAlive !== undefined && request.lenient !== true) {
    reasons.push({ field: "keepAlive", reason: "the embedded model stays loaded as long as its process" })
  }
  if (request.options !== undefined && request.lenient !== true && Object.keys(request.options).length > 0) {
    reasons.push({ field: "options", reason: "these are Ollama's own" })
  }
  if (request.template !== undefined) reasons.push({ field: "template", reason: "the embedded model has its own" })
  const last = request.messages.at(-1)
  if (request.format !== "text" && last?.role === "assistant" && last.content !== "") {
    reasons.push({ field: "format", reason: "the embedded engine cannot continue JSON that another server began" })
  }
  return reasons
}

const cannotEmbed = ({ keepAlive, lenient, options }: EmbedRequest): ReadonlyArray<Unsupported> => {
  if (lenient === true) return []
  const reasons: Array<Unsupported> = []
  if (keepAlive !== undefined) {
    reasons.push({ field: "keepAlive", reason: "the embedded model stays loaded as long as its process" })
  }
  if (options !== undefined && Object.keys(options).length > 0) {
    reasons.push({ field: "options", reason: "these are Ollama's own" })
  }
  return reasons
}

// =============================================================================
// The backend
// =============================================================================

const failureOf = (cause: unknown): ServerFailure =>
  cause instanceof LoadFailure ? cause.failure : { reason: "engine", message: `the engine failed: ${describe(cause)}` }

const closedFailure: ServerFailure = { reason: "engine", message: "the embedded engine has been closed" }

const capabilitiesOf = ({ model, template, vectors }: Engine): ReadonlyArray<string> => [
  vectors === undefined ? "completion" : "embedding",
  ...(vectors === undefined && template.form !== "told" ? ["tools"] : []),
  ...(vectors === undefined && template.thinks ? ["thinking"] : []),
  ...(vectors === undefined && model.tokens.infill.prefix !== null ? ["insert"] : [])
]

export const make = (options: EmbeddedOptions = {}): EmbeddedBackend => {
  const builtIn = options.modelPath === undefined
  const withoutVectors = builtIn ? noEmbeddings : noVectors
  /** Each request that has not ended, and what settles when nothing is computed for it any more. */
  const jobs = new Map<Job, Promise<void>>()
  const embedding = new Set<Promise<void>>()
  const { preload } = options
  let loading = preload?.engine as Promise<Engine> | undefined
  let closed = false

  const load = (): Promise<Engine> => {
    loading ??= loadEngine(options.modelPath ?? defaultModelPath(), options, builtIn).catch((cause) => {
      loading = undefined
      throw cause
    })
    return loading
  }

  if (preload !== undefined) {
    load().then(
      (engine) => preload.loaded({ context_length: engine.contextSize, capabilities: capabilitiesOf(engine) }),
      (cause) => preload.failed(failureOf(cause))
    )
  }

  const run = async (job: Job): Promise<void> => {
    try {
      const engine = await load()
      if (!job.over) await answer(engine, job)
    } catch (cause) {
      job.fail(failureOf(cause))
    } finally {
      jobs.delete(job)
    }
  }

  const start: Backend["start"] = (_server, request, sink) => {
    const job = new Job(request, sink)
    // The caller gets its exchange before its sink is called.
    if (closed) {
      queueMicrotask(() => job.fail(closedFailure))
    } else {
      queueMicrotask(() => job.connected())
      jobs.set(
        job,
        Promise.resolve().then(() => run(job))
      )
    }
    return { abort: () => job.abort(), pause: () => job.pause(), resume: () => job.resume() }
  }

  return {
    backend: {
      unsupported: (request) =>
        options.embeddings === true
          ? [onlyEmbeddings]
          : builtIn
            ? [...unableBuiltIn(request), ...unable(request)]
            : unable(request),
      cannotEmbed: (request) => (options.embeddings === true ? cannotEmbed(request) : [withoutVectors]),
      embed: (_server, request, sink) => {
        const wanted = { yes: true }
        if (options.embeddings !== true) sink.fail(UnsupportedOptions.failure([withoutVectors]))
        else if (closed) queueMicrotask(() => sink.fail(closedFailure))
        else {
          queueMicrotask(() => wanted.yes && sink.connected())
          const work = load()
            .then((engine) => engine.vectors && embed(engine, engine.vectors, request, sink, () => wanted.yes))
            .catch((cause) => {
              if (wanted.yes) sink.fail(closed ? closedFailure : failureOf(cause))
            })
            .finally(() => embedding.delete(work))
          embedding.add(work)
        }
        return {
          abort() {
            wanted.yes = false
          },
          pause() {},
          resume() {}
        }
      },
      start,
      // A trailing assistant message is left open here, so the model always continues from the exact place.
      resume: (server, request, broken, sink) => {
        if (completes(request)) return start(server, continuationRequest(request, broken, sink), sink)
        const sent = wellFormed(broken.text)
        if (!continuable(request) || sent === "" || broken.calls.length > 0) {
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
      const running = [...jobs.values(), ...embedding]
      for (const job of jobs.keys()) job.fail(closedFailure)
      await Promise.all(running)
      const engine = loading
      loading = undefined
      await engine?.then(
        (loaded) => loaded.dispose(),
        () => {}
      )
    }
  }
}

/** An engine that is closed with its scope. Nothing is loaded before the first request, unless it is preloaded. */
export const scoped = (options: EmbeddedOptions = {}): Effect.Effect<Backend, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => make(options)),
    (embedded) => Effect.promise(embedded.close)
  ).pipe(Effect.map((embedded) => embedded.backend))
