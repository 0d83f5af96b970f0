/**
 * `POST /v1/completions`: what comes next in a text, or stands between two.
 *
 * Servers disagree about what this endpoint does: most go on with the text as it is, and Ollama puts it into the model's
 * chat template, as what a user says. A fleet of both must mean one thing, or an answer would depend on who gives it, and
 * one that broke could not be gone on with by another. Here it is OpenAI's own: the text goes to the model as it is.
 * `raw: false` asks for the template instead, on every server.
 *
 * @since 0.1.0
 */
import type { FinishReason, Usage } from "../../../ChatEvent.js"
import * as Message from "../../../Message.js"
import * as Fields from "../../http/body.js"
import { refuse } from "../../http/errorResponse.js"
import * as Policy from "../../http/fieldPolicy.js"
import * as Id from "../../http/id.js"
import type { Answered, Codec, Writer } from "../../pipeline/codec.js"
import * as Ask from "../../pipeline/gatewayRequest.js"
import { comment, eventStream, failure, fingerprint, total, usage } from "./chat.js"
import * as Likelihoods from "./logprobs.js"
import * as Messages from "./messages.js"
import * as Parameters from "./parameters.js"

// =============================================================================
// request
// =============================================================================

const known: ReadonlySet<string> = new Set([
  ...Parameters.commonNames,
  "prompt",
  "suffix",
  "raw",
  "max_tokens",
  "n",
  "echo",
  "best_of",
  "logprobs",
  "response_format",
  "guided_json",
  "json_schema"
])

/** So many answers are given at once. */
const maxAnswers = 128

/** OpenAI's own default, which not every server has: without it an answer's length would depend on who gives it. */
const defaultMaxTokens = 16

/**
 * `echoes`: what each prompt's answers begin with, where that was asked for.
 *
 * @since 0.1.0
 * @category models
 */
export interface Completion extends Ask.Ask {
  readonly includeUsage: boolean
  readonly echoes: ReadonlyArray<string>
}

const promptsOf = (body: Fields.Fields): ReadonlyArray<string> => {
  const value = body["prompt"]
  if (value === undefined || value === null) return refuse("prompt", "is missing", "missing_required_parameter")
  const all: ReadonlyArray<unknown> = Array.isArray(value) ? value : [value]
  if (all.length === 0) return refuse("prompt", "is empty")
  return all.map((one) => {
    if (one === "") return refuse("prompt", all.length === 1 ? "is empty" : "must not hold an empty string")
    if (typeof one === "string") return one
    if (typeof one === "number" || (Array.isArray(one) && one.every((token) => typeof token === "number"))) {
      return refuse("prompt", "cannot be tokens: each model has numbers of its own for them; send text")
    }
    return refuse("prompt", "must be a string or an array of strings")
  })
}

/** What only a template could make something of. */
const checkTemplated = (body: Fields.Fields, think: unknown, format: unknown): void => {
  const instead = "needs the model's chat template: use /v1/chat/completions, or raw: false"
  if (format !== "text") refuse("response_format", instead)
  if (think === undefined || think === false) return
  const names = ["think", "reasoning_effort", "reasoning", "enable_thinking", "thinking", "chat_template_kwargs"]
  refuse(names.find((name) => body[name] !== undefined && body[name] !== null) ?? "think", instead)
}

/**
 * @since 0.1.0
 * @category decoding
 */
export const decode = (body: Fields.Fields, ignored: Policy.Ignored): Completion => {
  ignored.check(body, known, Policy.refused.completions)
  Parameters.checkAbout(body)
  const n = Fields.whole(body, "n", 1, maxAnswers) ?? 1
  const best = Fields.whole(body, "best_of", 1, 20)
  if (best !== undefined && best !== n) refuse("best_of", "is not supported", "unsupported_parameter")
  const stream = Fields.flag(body, "stream") ?? false
  const texts = promptsOf(body)
  if (texts.length * n > maxAnswers) {
    refuse("prompt", `asks for ${texts.length * n} answers at once; there are at most ${maxAnswers}`)
  }
  const echo = Fields.flag(body, "echo") === true
  const logprobs = Fields.whole(body, "logprobs", 0, 20)
  if (echo && logprobs !== undefined) {
    refuse("echo", "cannot be used with logprobs: how likely the prompt is, is not known", "unsupported_parameter")
  }
  const suffix = Fields.text(body, "suffix") || undefined
  const raw = Fields.flag(body, "raw")
  if (raw === true && suffix !== undefined) {
    refuse("suffix", "cannot be used with raw: the server puts both texts into the model's own form")
  }
  const completes = raw !== false || suffix !== undefined
  const sampling = Parameters.sampling(body, ignored)
  const format = Messages.responseFormat(body, ignored)
  if (completes) checkTemplated(body, sampling.think, format)
  const prompts = texts.map((text) => [Message.user(text)])
  const model = Ask.model(body)
  return {
    model,
    stream,
    n,
    prompts: prompts.length === 1 ? undefined : prompts,
    oneTool: false,
    includeUsage: Parameters.includeUsage(body, stream, ignored),
    echoes: echo ? texts : [],
    ...Ask.extras(body),
    request: Ask.request(model, prompts[0] ?? [], sampling, {
      maxTokens: Fields.whole(body, "max_tokens", 1) ?? (completes ? defaultMaxTokens : undefined),
      format,
      raw: completes && suffix === undefined ? true : undefined,
      suffix,
      logprobs
    })
  }
}

// =============================================================================
// response
// =============================================================================

const fields = (model: string) => ({
  id: Id.make("cmpl-"),
  object: "text_completion",
  created: Math.floor(Date.now() / 1000),
  model,
  system_fingerprint: fingerprint
})

/** What stands before an answer. */
const echoOf = ({ echoes, n }: Completion, choice: number): string => echoes[Ask.promptOf({ n }, choice)] ?? ""

/** What all answers cost: each prompt was read once. */
const totals = (all: ReadonlyArray<Usage>, { n }: Completion): Usage => {
  const each = Array.from({ length: Math.ceil(all.length / n) }, (_, i) => total(all.slice(i * n, (i + 1) * n)))
  const sum = (name: Exclude<keyof Usage, "estimated">) => each.reduce((sum, one) => sum + (one[name] ?? 0), 0)
  const told = (name: "cachedTokens" | "reasoningTokens") =>
    each.some((one) => one[name] !== undefined) ? { [name]: sum(name) } : {}
  return {
    promptTokens: sum("promptTokens"),
    completionTokens: sum("completionTokens"),
    ...told("cachedTokens"),
    ...told("reasoningTokens")
  }
}

class CompletionWriter implements Writer {
  private readonly head: string
  private readonly tail: string
  private readonly usages: Array<Usage> = []
  /** Where in its answer each choice is, as far as it is told how likely its tokens were. */
  private readonly offsets: Array<number> = []

  constructor(
    model: string,
    private readonly ask: Completion
  ) {
    this.head = `data: ${JSON.stringify(fields(model)).slice(0, -1)}`
    this.tail = `${ask.includeUsage ? `,"usage":null` : ""}}\n\n`
  }

  private chunk(choice: number, text: string, reason: FinishReason | null, likely = "null"): string {
    const end = reason === null ? "null" : `"${reason}"`
    return `${this.head},"choices":[{"index":${choice},"text":${JSON.stringify(text)},"logprobs":${likely},"finish_reason":${end}}]${this.tail}`
  }
  begin(): string {
    if (this.ask.echoes.length === 0) return ""
    const length = Ask.choices(this.ask)
    return Array.from({ length }, (_, choice) => this.chunk(choice, echoOf(this.ask, choice), null)).join("")
  }
  text(choice: number, content: string, logprobs?: ReadonlyArray<unknown>): string {
    if (logprobs === undefined) return this.chunk(choice, content, null)
    const told = Likelihoods.make(logprobs, this.offsets[choice] ?? 0)
    this.offsets[choice] = told.end
    return this.chunk(choice, content, null, JSON.stringify(told.likelihoods))
  }
  /** The completions API has no place for reasoning. */
  thinking(): string {
    return ""
  }
  toolCallDelta(): string {
    return ""
  }
  toolCall(): string {
    return ""
  }
  end(choice: number, reason: FinishReason, counted: Usage): string {
    this.usages[choice] = counted
    return this.chunk(choice, "", reason)
  }
  finish(): string {
    const counted = this.ask.includeUsage
      ? `${this.head},"choices":[],"usage":${JSON.stringify(usage(totals(this.usages, this.ask)))}}\n\n`
      : ""
    return `${counted}data: [DONE]\n\n`
  }
}

/**
 * @since 0.1.0
 * @category encoding
 */
export const codec = (ask: Completion): Codec => ({
  contentType: eventStream,
  whole: (model: string, results: ReadonlyArray<Answered>) => ({
    ...fields(model),
    choices: results.map((result, index) => ({
      index,
      text: echoOf(ask, index) + result.text,
      logprobs: result.logprobs === undefined ? null : Likelihoods.make(result.logprobs, 0).likelihoods,
      finish_reason: result.finishReason
    })),
    usage: usage(
      totals(
        results.map((result) => result.usage),
        ask
      )
    )
  }),
  writer: (model) => new CompletionWriter(model, ask),
  failure,
  heartbeat: comment
})
