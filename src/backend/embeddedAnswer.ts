/** Writes one answer, token by token. */
import type { GbnfJsonObjectSchema, LlamaContextSequence, LlamaGrammar, Token } from "node-llama-cpp"
import type { Finish } from "../Backend.js"
import { type ChatRequest, completes, type JsonObject } from "../ChatRequest.js"
import { grammarSchema } from "../internal/grammarSchema.js"
import * as Unsupported from "../internal/unsupported.js"
import type { Engine } from "./embeddedEngine.js"
import type { Job } from "./embeddedJob.js"
import { describe } from "./embeddedLibrary.js"
import { biasOf, logprobOf, samplingOf } from "./embeddedOptions.js"
import { evaluatePrompt } from "./embeddedSequences.js"
import { makeStopFilter } from "./embeddedStopFilter.js"
import { type Prompt, PromptRefused } from "./embeddedTemplate.js"
import { ThinkingSplitter } from "./embeddedThinking.js"
import * as Tools from "./embeddedTools.js"

const replacement = "\uFFFD"
/** More tokens than any character takes. */
const maxPartial = 8
/** As many tokens before one as decide how it is written. */
const context = 4

const createGrammar = async (engine: Engine, format: ChatRequest["format"]): Promise<LlamaGrammar | undefined> => {
  if (format === "text") return undefined
  return format === "json" ? engine.json() : engine.schema(grammarSchema(format) as GbnfJsonObjectSchema)
}

/** What the text of an answer goes through: reasoning and tool calls are separated from it. */
class Output {
  private readonly splitter: ThinkingSplitter
  readonly tools: Tools.ToolReader | undefined
  private called = 0

  constructor(
    private readonly job: Job,
    engine: Engine,
    prompt: Prompt
  ) {
    const { request } = job
    const plain = completes(request)
    const thinks = !plain && engine.template.thinks && prompt.begun === ""
    this.splitter = new ThinkingSplitter(prompt.opensThinking ? "thinking" : thinks ? "begin" : "text")
    const offered = plain ? [] : Tools.offered(request)
    if (offered.length > 0) {
      const names = new Set(offered.map(({ name }) => name))
      this.tools = new Tools.ToolReader(engine.template.form, names, Tools.isForced(request))
    }
  }

  get isThinking(): boolean {
    return this.splitter.isThinking
  }
  get hasCalls(): boolean {
    return this.called > 0
  }

  push(piece: string, logprobs: ReadonlyArray<unknown> | undefined): void {
    const { text, thinking } = this.splitter.push(piece)
    this.job.thinking(thinking)
    if (this.tools === undefined) this.job.text(text, logprobs)
    else if (text !== "") this.tell(this.tools.push(text), logprobs)
    if (text === "" && thinking === "" && piece !== "") this.job.progress()
  }

  end(): void {
    const { text, thinking } = this.splitter.rest()
    this.job.thinking(thinking)
    if (this.tools === undefined) this.job.text(text)
    else {
      this.tell(this.tools.push(text), undefined)
      this.tell(this.tools.rest(), undefined)
    }
  }

  private tell({ calls, text }: Tools.ToolPiece, logprobs: ReadonlyArray<unknown> | undefined): void {
    this.job.text(text, logprobs)
    for (const call of calls) {
      this.called++
      this.job.toolCall(call)
    }
    if (text === "" && calls.length === 0) this.job.progress()
  }
}

/** What this model cannot do, which is known only once it is loaded. */
const refusal = (engine: Engine, { think }: ChatRequest) =>
  think !== undefined && think !== false && !engine.template.thinks
    ? Unsupported.failure([{ field: "think", reason: "this model does not reason" }])
    : undefined

/** Answers a job, once a sequence is free. The job gets any error of the request. */
export const answer = async (engine: Engine, job: Job): Promise<void> => {
  const { request } = job
  const refused = refusal(engine, request)
  if (refused !== undefined) return job.fail(refused)
  let prompt: Prompt
  try {
    prompt = engine.template.prompt(request)
  } catch (cause) {
    if (cause instanceof PromptRefused) return job.fail(cause.failure)
    throw cause
  }
  const space = engine.contextSize - prompt.tokens.length
  if (space < 1) {
    const limit = `the model's context holds ${engine.contextSize}`
    const what = completes(request) ? "text" : "conversation"
    const message = `the ${what} is ${prompt.tokens.length} tokens long and ${limit}; shorten it`
    return job.fail({ reason: "context-length", message })
  }
  let grammar: LlamaGrammar | undefined
  let callGrammar: LlamaGrammar | undefined
  try {
    const offered = completes(request) ? [] : Tools.offered(request)
    // A model that may call tools need not answer with JSON.
    if (offered.length === 0) grammar = await createGrammar(engine, request.format)
    // What a bare call is, is known only once it has begun.
    if (offered.length > 0 && (engine.template.form !== "bare" || Tools.isForced(request))) {
      const schema: JsonObject = Tools.callSchema(engine.template.form, offered)
      callGrammar = await engine.schema(schema as GbnfJsonObjectSchema)
    }
  } catch (cause) {
    const message = `the schema cannot be made a grammar: ${describe(cause)}`
    return job.fail({ reason: "invalid-request", message })
  }
  const sequence = await engine.sequences.acquire(job, prompt.tokens)
  if (sequence === undefined) return
  try {
    await write(engine, sequence, job, prompt, Math.min(request.maxTokens ?? space, space), grammar, callGrammar)
  } catch (cause) {
    // What it has evaluated is not known.
    await sequence.clearHistory().catch(() => {})
    throw cause
  } finally {
    engine.sequences.release(sequence)
  }
}

const write = async (
  engine: Engine,
  sequence: LlamaContextSequence,
  job: Job,
  prompt: Prompt,
  limit: number,
  grammar: LlamaGrammar | undefined,
  callGrammar: LlamaGrammar | undefined
): Promise<void> => {
  const { model } = engine
  const { request } = job
  const bias = biasOf(request, model, () => engine.tokenBias())
  if (bias !== undefined && "reason" in bias) return job.fail(bias)
  const started = performance.now()
  const evaluated = await evaluatePrompt(sequence, prompt.tokens, engine.batchSize, job)
  if (evaluated === undefined) return

  // The grammars end with empty lines, which occur nowhere else in them.
  const filter = makeStopFilter(grammar === undefined ? request.stop : [...request.stop, "\n\n"])
  const output = new Output(job, engine, prompt)
  const { tools } = output
  const generated: Array<Token> = []
  const sampling = samplingOf(request, generated)
  const state = grammar === undefined ? undefined : engine.grammarState(grammar)
  let callState = callGrammar !== undefined && tools?.atCall === true ? engine.grammarState(callGrammar) : undefined
  const wanted = request.logprobs
  const top = wanted ?? 0
  // Control tokens mark calls; else they are not text.
  const shown = tools !== undefined
  let before: Array<Token> = prompt.tokens.slice(-context)
  let partial: Array<Token> = []
  let logprobs: Array<{ readonly entry: object; readonly at: number }> = []
  let length = 0
  let passed = 0
  let firstAt = 0
  let reasoning = 0
  let reason: Finish["reason"] = "stop"

  /** Passes text on, with the log probabilities of its tokens. */
  const pass = (text: string): void => {
    passed += text.length
    if (text === "") return
    if (wanted === undefined) {
      output.push(text, undefined)
      return
    }
    const told = logprobs.filter(({ at }) => at < passed)
    logprobs = logprobs.filter(({ at }) => at >= passed)
    output.push(
      text,
      told.map(({ entry }) => entry)
    )
  }

  const answer = sequence.evaluateWithMetadata(
    evaluated.rest,
    { probabilities: wanted !== undefined },
    {
      ...sampling,
      ...(bias === undefined ? {} : { tokenBias: bias }),
      ...(state === undefined && callGrammar === undefined ? {} : { grammarEvaluationState: () => callState ?? state })
    }
  )
  let asks = true
  const endAsking = (): void => {
    if (asks) engine.batching.end()
    asks = false
  }
  engine.batching.begin()
  // The next token is computed while this one is written.
  let next = answer.next()
  try {
    for (;;) {
      const { done, value } = await next
      if (job.over) return
      if (firstAt === 0) firstAt = performance.now()
      if (done === true || model.isEogToken(value.token)) break
      const { token } = value
      generated.push(token)
      if (generated.length < limit) next = answer.next()
      else endAsking()
      partial.push(token)
      if (output.isThinking) reasoning++
      const { probabilities } = value as { readonly probabilities?: ReadonlyMap<Token, number> }
      if (probabilities !== undefined) {
        const textOf = (one: Token) => model.detokenize([one], shown, before)
        logprobs.push({ entry: logprobOf(token, probabilities, sampling, top, textOf), at: length })
      }
      const text = model.detokenize(partial, shown, before)
      if (!text.endsWith(replacement) || partial.length >= maxPartial) {
        before = partial.slice(-context)
        partial = []
        length += text.length
        pass(filter.push(text))
        if (filter.stopped() !== undefined) break
        if (callGrammar !== undefined) {
          const begins = tools?.atCall === true && callState === undefined
          callState = begins ? engine.grammarState(callGrammar) : tools?.inCall === true ? callState : undefined
        }
      }
      if (generated.length >= limit) {
        reason = "length"
        break
      }
    }
  } finally {
    endAsking()
    // The sequence is free once nothing is computed in it.
    next.catch(() => {})
    await answer.return()
  }
  if (job.over) return
  const seconds = (performance.now() - firstAt) / 1000
  const completionTokens = generated.length
  pass(filter.rest())
  output.end()
  const stopSequence = filter.stopped()
  const promptTokens = prompt.tokens.length
  job.finish({
    reason: output.hasCalls && reason === "stop" ? "tool_calls" : reason,
    ...(stopSequence !== undefined && request.stop.includes(stopSequence) ? { stopSequence } : {}),
    usage: {
      promptTokens,
      completionTokens,
      totalTokens: promptTokens + completionTokens,
      cachedTokens: evaluated.cached,
      ...(reasoning > 0 ? { reasoningTokens: reasoning } : {})
    },
    promptEvaluated: promptTokens - evaluated.cached,
    ...(firstAt > 0 ? { promptTime: firstAt - started } : {}),
    ...(completionTokens > 1 && seconds > 0 ? { tokensPerSecond: (completionTokens - 1) / seconds } : {})
  })
}
