/** Writes answers like Ollama's `/api/chat` and `/api/generate`. */
import type { End, FinishReason, Usage } from "../../../ChatEvent.js"
import type { ChatRequest } from "../../../ChatRequest.js"
import * as ToolArguments from "../../../internal/toolArguments.js"
import type * as Message from "../../../Message.js"
import * as ErrorResponse from "../../http/errorResponse.js"
import type { Codec, CompletedAnswer, Writer } from "../../pipeline/codec.js"
import * as Context from "./context.js"
import * as Validation from "./validation.js"

/** The durations and counts at the end of an answer. */
type OllamaUsage = Pick<End, "timings" | "tokensPerSecond">

/**
 * Durations in nanoseconds: the server's own if it reports them, else measured here. Zero is omitted, as in Ollama.
 */
const counts = (began: number, firstPiece: number | undefined, usage: Usage, end: OllamaUsage): object => {
  const { cachedTokens, completionTokens, promptTokens } = usage
  const { timings, tokensPerSecond } = end
  const now = performance.now()
  const nano = (milliseconds: number) => Math.max(1, Math.round(milliseconds * 1e6))
  const first = firstPiece ?? now
  const spoken = tokensPerSecond === undefined ? now - first : ((completionTokens ?? 0) / tokensPerSecond) * 1000
  return {
    total_duration: nano(now - began),
    load_duration: nano(timings?.load ?? 0),
    ...(promptTokens ? { prompt_eval_count: promptTokens } : {}),
    ...(cachedTokens ? { prompt_eval_cached_count: cachedTokens } : {}),
    prompt_eval_duration: nano(timings?.prompt ?? first - began),
    ...(completionTokens ? { eval_count: completionTokens, eval_duration: nano(spoken) } : {})
  }
}

/** A timestamp as Ollama writes it: without trailing zeros. */
export const timestamp = (): string => {
  const text = new Date().toISOString()
  return text.endsWith("0Z") ? text.replace(/\.?0+Z$/, "Z") : text
}

const doneReason = (reason: FinishReason): string => (reason === "length" ? "length" : "stop")

const call = (made: Message.ToolCall, index: number): object => ({
  id: made.id,
  function: { index, name: made.name, arguments: ToolArguments.object(made) }
})

class LineWriter implements Writer {
  private readonly head: string
  private first: number | undefined
  private answer = ""

  constructor(
    model: string,
    private readonly generates: boolean,
    private readonly began: number,
    private readonly prompt: ReadonlyArray<Message.Message> | undefined
  ) {
    this.head = `{"model":${JSON.stringify(model)},"created_at":"`
  }

  /** The fields of a line after the model and the time. */
  private line(rest: string): string {
    this.first ??= performance.now()
    return `${this.head}${timestamp()}",${rest}\n`
  }
  begin(): string {
    return ""
  }
  text(_: number, content: string, logprobs?: ReadonlyArray<unknown>): string {
    if (this.prompt !== undefined) this.answer += content
    const words = JSON.stringify(content)
    const likely = logprobs === undefined ? "" : `,"logprobs":${JSON.stringify(logprobs)}`
    return this.line(
      this.generates
        ? `"response":${words},"done":false${likely}}`
        : `"message":{"role":"assistant","content":${words}},"done":false${likely}}`
    )
  }
  thinking(_: number, content: string): string {
    const words = JSON.stringify(content)
    return this.line(
      this.generates
        ? `"response":"","thinking":${words},"done":false}`
        : `"message":{"role":"assistant","content":"","thinking":${words}},"done":false}`
    )
  }
  /** Ollama sends tool calls complete. */
  toolCallDelta(): string {
    return ""
  }
  toolCall(_: number, index: number, made: Message.ToolCall): string {
    const calls = JSON.stringify([call(made, index)])
    return this.line(`"message":{"role":"assistant","content":"","tool_calls":${calls}},"done":false}`)
  }
  end(_: number, reason: FinishReason, usage: Usage, end: End): string {
    const words = this.generates ? `"response":""` : `"message":{"role":"assistant","content":""}`
    const rest = JSON.stringify({
      done_reason: doneReason(reason),
      ...(this.prompt === undefined ? {} : { context: Context.encode(this.prompt, this.answer) }),
      ...counts(this.began, this.first, usage, end)
    })
    return this.line(`${words},"done":true,${rest.slice(1)}`)
  }
  finish(): string {
    return ""
  }
}

/**
 * The codec of a request. `generates`: as `/api/generate` does, whose answers include the conversation as `context`
 * unless the prompt was raw.
 */
export const codec = (model: string, generates: boolean, request: ChatRequest): Codec => {
  const began = performance.now()
  const prompt = generates && request.raw !== true ? request.messages : undefined
  const beat = {
    model,
    created_at: timestamp(),
    ...(generates ? { response: "" } : { message: { role: "assistant", content: "" } }),
    done: false
  }
  return {
    contentType: "application/x-ndjson",
    complete: (name, [result]) =>
      JSON.stringify(result === undefined ? {} : complete(name, result, generates, began, prompt)),
    writer: (name) => new LineWriter(name, generates, began, prompt),
    failure: (errorResponse) => {
      const error = Validation.ollamaErrorOf(errorResponse, generates ? "/api/generate" : "/api/chat", model)
      return `${JSON.stringify(ErrorResponse.ollama(error))}\n`
    },
    // NDJSON has no comments: an empty piece is accepted by every client.
    heartbeat: `${JSON.stringify(beat)}\n`
  }
}

const complete = (
  model: string,
  {
    finishReason,
    firstTokenTime,
    logprobs,
    text,
    thinking,
    timings,
    tokensPerSecond,
    toolCalls,
    usage
  }: CompletedAnswer,
  generates: boolean,
  began: number,
  prompt: ReadonlyArray<Message.Message> | undefined
): object => ({
  model,
  created_at: timestamp(),
  ...(generates
    ? { response: text, ...(thinking === "" ? {} : { thinking }) }
    : {
        message: {
          role: "assistant",
          content: text,
          ...(thinking === "" ? {} : { thinking }),
          ...(toolCalls.length === 0 ? {} : { tool_calls: toolCalls.map(call) })
        }
      }),
  done: true,
  done_reason: doneReason(finishReason),
  ...(logprobs === undefined ? {} : { logprobs }),
  ...(prompt === undefined ? {} : { context: Context.encode(prompt, text) }),
  ...counts(began, firstTokenTime === undefined ? undefined : began + firstTokenTime, usage, {
    ...(timings === undefined ? {} : { timings }),
    ...(tokensPerSecond === undefined ? {} : { tokensPerSecond })
  })
})
