/**
 * `POST /v1/completions`: continues a text, or fills in the middle.
 *
 * Servers differ here: most continue the raw text, Ollama wraps it in the chat template as a user message. In a mixed
 * fleet it must mean one thing, or answers would depend on the server and a broken one could not be resumed elsewhere.
 * It is OpenAI's meaning: the raw text goes to the model. `raw: false` asks for the template instead, on every server.
 */
import type { FinishReason, Usage } from "../../../ChatEvent.js"
import * as Message from "../../../Message.js"
import type * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import { reject } from "../../http/errorResponse.js"
import type * as FieldPolicy from "../../http/fieldPolicy.js"
import * as Id from "../../http/id.js"
import type { Codec, CompletedAnswer, Writer } from "../../pipeline/codec.js"
import * as CommonFields from "../../pipeline/commonFields.js"
import * as GatewayRequest from "../../pipeline/gatewayRequest.js"
import * as OptionNames from "../../pipeline/optionNames.js"
import { comment, eventStream, failure, fingerprint, total, usage } from "./chat.js"
import * as Format from "./format.js"
import * as Logprobs from "./logprobs.js"
import * as Parameters from "./parameters.js"

// =============================================================================
// Request
// =============================================================================

/** Maximum number of answers. */
const maxAnswers = 128

/** OpenAI's default, which not every server has: without it the length would depend on the server. */
const defaultMaxTokens = 16

/** `echoes`: the prompts to repeat before each answer, if requested. */
export interface CompletionRequest extends GatewayRequest.GatewayRequest {
  readonly includeUsage: boolean
  readonly echoes: ReadonlyArray<string>
}

const prompts = Body.required(
  Body.custom(
    {
      ...Body.anyOf(
        { type: "string", minLength: 1 },
        { type: "array", items: { type: "string", minLength: 1 }, minItems: 1, maxItems: maxAnswers }
      ),
      description: `Goes to the model as it is, without a chat template. At most ${maxAnswers} answers in all.`
    },
    (body, name, at): ReadonlyArray<string> | undefined => {
      const value = body[name]
      if (value === undefined || value === null) return undefined
      const all: ReadonlyArray<unknown> = Array.isArray(value) ? value : [value]
      if (all.length === 0) return reject(at, "is empty")
      return all.map((one) => {
        if (one === "") return reject(at, all.length === 1 ? "is empty" : "must not hold an empty string")
        if (typeof one === "string") return one
        if (typeof one === "number" || (Array.isArray(one) && one.every((token) => typeof token === "number"))) {
          return reject(at, "cannot be tokens: each model has numbers of its own for them; send text")
        }
        return reject(at, "must be a string or an array of strings")
      })
    }
  )
)

/** The body. */
export const body = Body.struct(
  {
    prompt: prompts,
    suffix: Body.text({ doc: "The text after the gap to fill." }),
    raw: Body.flag({ default: true, doc: "false: the prompt is put into the chat template." }),
    ...Parameters.fields,
    max_tokens: Body.whole(1, undefined, {
      default: defaultMaxTokens,
      doc: "Without the default where raw is false."
    }),
    n: Body.whole(1, maxAnswers, { default: 1, doc: "For each prompt." }),
    best_of: Body.whole(1, 20, { doc: "As many as n." }),
    echo: Body.flag({ doc: "Not together with logprobs." }),
    logprobs: Body.whole(0, 20),
    ...Format.fields("Only where raw is false.")
  },
  {
    refused: {
      messages: "use prompt, or /v1/chat/completions",
      tools: "use /v1/chat/completions",
      max_completion_tokens: "use max_tokens"
    }
  }
)

const { read } = body

/** Fields that need a chat template. */
const checkTemplated = (given: BodyFields.Fields, think: unknown, format: unknown): void => {
  const instead = "needs the model's chat template: use /v1/chat/completions, or raw: false"
  if (format !== "text") reject("response_format", instead)
  if (think === undefined || think === false) return
  const names = ["think", "reasoning_effort", "reasoning", "enable_thinking", "thinking", "chat_template_kwargs"]
  reject(names.find((name) => given[name] !== undefined && given[name] !== null) ?? "think", instead)
}

export const decode = (given: BodyFields.Fields, ignored: FieldPolicy.IgnoredFields): CompletionRequest => {
  ignored.check(given, body)
  Parameters.checkAbout(given)
  const n = read.n(given) ?? 1
  const best = read.best_of(given)
  if (best !== undefined && best !== n) reject("best_of", "is not supported", "unsupported_parameter")
  const stream = read.stream(given) ?? false
  const texts = read.prompt(given)
  if (texts.length * n > maxAnswers) {
    reject("prompt", `asks for ${texts.length * n} answers at once; there are at most ${maxAnswers}`)
  }
  const echo = read.echo(given) === true
  const logprobs = read.logprobs(given)
  if (echo && logprobs !== undefined) {
    reject("echo", "cannot be used with logprobs: how likely the prompt is, is not known", "unsupported_parameter")
  }
  const suffix = read.suffix(given) || undefined
  const raw = read.raw(given)
  if (raw === true && suffix !== undefined) {
    reject("suffix", "cannot be used with raw: the server puts both texts into the model's own form")
  }
  const completes = raw !== false || suffix !== undefined
  const sampling = Parameters.sampling(given, ignored)
  const format = Format.responseFormat(given, ignored)
  if (completes) checkTemplated(given, sampling.think, format)
  const conversations = texts.map((text) => [Message.user(text)])
  const model = read.model(given)
  return {
    model,
    stream,
    n,
    prompts: conversations.length === 1 ? undefined : conversations,
    oneTool: false,
    includeUsage: Parameters.includeUsage(given, stream, ignored),
    names: OptionNames.completions,
    echoes: echo ? texts : [],
    ...CommonFields.extras(given),
    request: GatewayRequest.request(model, conversations[0] ?? [], sampling, {
      maxTokens: read.max_tokens(given) ?? (completes ? defaultMaxTokens : undefined),
      format,
      raw: completes && suffix === undefined ? true : undefined,
      suffix,
      logprobs
    })
  }
}

// =============================================================================
// Response
// =============================================================================

const fields = (model: string) => ({
  id: Id.make("cmpl-"),
  object: "text_completion",
  created: Math.floor(Date.now() / 1000),
  model,
  system_fingerprint: fingerprint
})

/** The echoed prompt before an answer. */
const echoOf = ({ echoes, n }: CompletionRequest, choice: number): string =>
  echoes[GatewayRequest.promptOf({ n }, choice)] ?? ""

/** The usage of all answers: each prompt counts once. */
const totals = (all: ReadonlyArray<Usage>, { n }: CompletionRequest): Usage => {
  const each = Array.from({ length: Math.ceil(all.length / n) }, (_, i) => total(all.slice(i * n, (i + 1) * n)))
  const sum = (name: Exclude<keyof Usage, "estimated">) => each.reduce((sum, one) => sum + (one[name] ?? 0), 0)
  const sumIfReported = (name: "cachedTokens" | "reasoningTokens") =>
    each.some((one) => one[name] !== undefined) ? { [name]: sum(name) } : {}
  return {
    promptTokens: sum("promptTokens"),
    completionTokens: sum("completionTokens"),
    ...sumIfReported("cachedTokens"),
    ...sumIfReported("reasoningTokens")
  }
}

class CompletionWriter implements Writer {
  private readonly head: string
  private readonly tail: string
  private readonly usages: Array<Usage> = []
  /** Text offset of each choice, as far as log probabilities are reported. */
  private readonly offsets: Array<number> = []

  constructor(
    model: string,
    private readonly ask: CompletionRequest
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
    const length = GatewayRequest.choices(this.ask)
    return Array.from({ length }, (_, choice) => this.chunk(choice, echoOf(this.ask, choice), null)).join("")
  }
  text(choice: number, content: string, logprobs?: ReadonlyArray<unknown>): string {
    if (logprobs === undefined) return this.chunk(choice, content, null)
    const legacy = Logprobs.make(logprobs, this.offsets[choice] ?? 0)
    this.offsets[choice] = legacy.end
    return this.chunk(choice, content, null, JSON.stringify(legacy.logprobs))
  }
  /** The completions API has no field for reasoning. */
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

export const codec = (gatewayRequest: CompletionRequest): Codec => ({
  contentType: eventStream,
  complete: (model: string, results: ReadonlyArray<CompletedAnswer>) =>
    JSON.stringify({
      ...fields(model),
      choices: results.map((result, index) => ({
        index,
        text: echoOf(gatewayRequest, index) + result.text,
        logprobs: result.logprobs === undefined ? null : Logprobs.make(result.logprobs, 0).logprobs,
        finish_reason: result.finishReason
      })),
      usage: usage(
        totals(
          results.map((result) => result.usage),
          gatewayRequest
        )
      )
    }),
  writer: (model) => new CompletionWriter(model, gatewayRequest),
  failure,
  heartbeat: comment
})
