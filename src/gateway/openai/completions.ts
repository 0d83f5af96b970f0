/**
 * `POST /v1/completions`: as Ollama has it, the prompt is put into the model's template as what a user says.
 *
 * @since 0.1.0
 */
import type { FinishReason, Usage } from "../../ChatEvent.js"
import type { Result } from "../../Failover.js"
import * as Message from "../../Message.js"
import * as Ask from "../ask.js"
import type { Codec, Writer } from "../codec.js"
import * as Fields from "../fields.js"
import * as Id from "../id.js"
import { refuse } from "../problem.js"
import { comment, eventStream, failure, fingerprint, total, usage } from "./chat.js"
import * as Messages from "./messages.js"
import * as Parameters from "./parameters.js"

const known: ReadonlySet<string> = new Set([
  ...Parameters.commonNames,
  "prompt",
  "max_tokens",
  "n",
  "echo",
  "best_of",
  "response_format"
])

const refused = {
  suffix: "no server of a fleet is sure to fill in the middle",
  logprobs: "it is not known for every server"
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Completion extends Ask.Ask {
  readonly includeUsage: boolean
  /** What stands before each answer. */
  readonly echo: string
}

const promptOf = (body: Fields.Fields): string => {
  const value = body["prompt"]
  if (typeof value === "string") return value === "" ? refuse("prompt", "is empty") : value
  if (Array.isArray(value) && value.length === 1 && typeof value[0] === "string" && value[0] !== "") return value[0]
  if (value === undefined || value === null) return refuse("prompt", "is missing", "missing_required_parameter")
  return refuse("prompt", "must be one string; tokens and several prompts are not supported")
}

/**
 * @since 0.1.0
 * @category decoding
 */
export const decode = (body: Fields.Fields): Completion => {
  Fields.unsupported(body, refused)
  Fields.only(body, known)
  Parameters.checkHarmless(body)
  const n = Fields.whole(body, "n", 1, 128) ?? 1
  const best = Fields.whole(body, "best_of", 1, 20)
  if (best !== undefined && best !== n) refuse("best_of", "is not supported", "unsupported_parameter")
  const stream = Fields.flag(body, "stream") ?? false
  const prompt = promptOf(body)
  return {
    model: Ask.model(body),
    stream,
    n,
    oneTool: false,
    includeUsage: Parameters.includeUsage(body, stream),
    echo: Fields.flag(body, "echo") === true ? prompt : "",
    ...Ask.extras(body),
    request: {
      messages: [Message.user(prompt)],
      ...Parameters.sampling(body),
      maxTokens: Fields.whole(body, "max_tokens", 1),
      tools: [],
      toolChoice: undefined,
      format: Messages.format(Fields.object(body, "response_format"), "response_format", true)
    }
  }
}

const fields = (model: string) => ({
  id: Id.make("cmpl-"),
  object: "text_completion",
  created: Math.floor(Date.now() / 1000),
  model,
  system_fingerprint: fingerprint
})

class CompletionWriter implements Writer {
  private readonly head: string
  private readonly usages: Array<Usage> = []

  constructor(
    model: string,
    private readonly ask: Completion
  ) {
    this.head = `data: ${JSON.stringify(fields(model)).slice(0, -1)}`
  }

  private chunk(choice: number, text: string, reason: FinishReason | null): string {
    const end = reason === null ? "null" : `"${reason}"`
    const usage = this.ask.includeUsage ? `,"usage":null` : ""
    return `${this.head},"choices":[{"index":${choice},"text":${JSON.stringify(text)},"logprobs":null,"finish_reason":${end}}]${usage}}\n\n`
  }
  begin(): string {
    if (this.ask.echo === "") return ""
    return Array.from({ length: this.ask.n }, (_, choice) => this.chunk(choice, this.ask.echo, null)).join("")
  }
  text(choice: number, content: string): string {
    return this.chunk(choice, content, null)
  }
  /** The completions API has no place for reasoning. */
  thinking(): string {
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
      ? `${this.head},"choices":[],"usage":${JSON.stringify(usage(total(this.usages)))}}\n\n`
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
  whole: (model: string, results: ReadonlyArray<Result>) => ({
    ...fields(model),
    choices: results.map((result, index) => ({
      index,
      text: ask.echo + result.text,
      logprobs: null,
      finish_reason: result.finishReason
    })),
    usage: usage(total(results.map((result) => result.usage)))
  }),
  writer: (model) => new CompletionWriter(model, ask),
  failure,
  heartbeat: comment
})
