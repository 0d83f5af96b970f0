/**
 * Resumes an answer on Ollama from the exact place, independent of the model's template: the server renders the prompt
 * of the conversation, the partial answer is appended, and the result goes to `/api/generate` as a raw prompt.
 */
import type { Finish, ServerFailure, Sink } from "../Backend.js"
import type { ChatRequest } from "../ChatRequest.js"
import * as Lines from "../internal/lines.js"
import * as Template from "../internal/lineTemplate.js"
import * as Message from "../Message.js"
import * as Http from "./http.js"
import { continuable } from "./resume.js"
import { isRejection } from "./resumeSupport.js"

/** Whether a request can be resumed this way. Raw output is not parsed for tool calls: one would appear as text. */
export const possible = (request: ChatRequest): boolean =>
  continuable(request) && (request.tools.length === 0 || request.toolChoice === "none")

/** gpt-oss names a channel before any text. */
const harmony = "<|start|>assistant"

/**
 * The prompt followed by the partial answer. Some templates open a reasoning section: it must be closed before the
 * answer, or the answer would become a part of it.
 */
export const prompt = (rendered: string, text: string, thinking: string): string => {
  const end = rendered.trimEnd()
  if (end.endsWith(harmony)) {
    const thinkingText = thinking === "" ? "" : `<|channel|>analysis<|message|>${thinking}<|end|>${harmony}`
    return `${end}${thinkingText}<|channel|>final<|message|>${text}`
  }
  const opened = /<(think|thinking|thought|reasoning)>$/.exec(end)
  return opened === null ? `${rendered}${text}` : `${end}\n${thinking}\n</${opened[1]}>\n\n${text}`
}

/** The images of a conversation, as its prompt numbers them. */
export const images = (request: ChatRequest): ReadonlyArray<string> =>
  request.messages.flatMap((message) => Message.images(message).map((image) => ("data" in image ? image.data : "")))

// =============================================================================
// The prompt
// =============================================================================

/**
 * Reads the rendered prompt. `shown` gets `undefined` if the server does not support rendering; `refused` is called if
 * it rejects the request.
 */
export class Rendering implements Sink {
  readonly decoder: Http.Decoder
  readonly context: Sink["context"]
  private complete = false
  private rendered: string | undefined

  constructor(
    private readonly sink: Sink,
    private readonly onPrompt: (prompt: string | undefined) => void,
    private readonly refused: () => void
  ) {
    this.context = sink.context
    let text = ""
    const lines = Lines.make((line) => {
      text += line
    })
    this.decoder = {
      feed: (bytes) => lines.feed(bytes),
      end: () => {
        lines.end()
        // An empty body means a broken connection.
        if (text === "") return
        const info = Http.parseJson(text)["_debug_info"]
        const rendered =
          typeof info === "object" && info !== null
            ? (info as { readonly rendered_template?: unknown }).rendered_template
            : undefined
        this.rendered = typeof rendered === "string" ? rendered : undefined
        this.complete = true
      },
      broke: () => {},
      finished: () => this.complete
    }
  }

  connected(): void {
    this.sink.connected()
  }
  read(): void {
    this.sink.read()
  }
  text(): void {}
  thinking(): void {}
  toolCall(): void {}
  finish(): void {}
  flush(): void {
    if (this.complete) this.onPrompt(this.rendered)
  }
  fail(failure: ServerFailure): void {
    if (isRejection(failure)) this.refused()
    else this.sink.fail(failure)
  }
}

// =============================================================================
// The answer
// =============================================================================

/** Decodes the lines of `/api/generate`; `finish` reads the last one, `templates` are those of earlier answers. */
export const decoder = (
  sink: Sink,
  finish: (line: { readonly [key: string]: unknown }) => Finish,
  templates?: Template.Memory,
  model = ""
): Http.Decoder => {
  let finished = false
  const template = Template.make("response", templates, model)
  const say = (content: string): void => sink.text(content)
  const take = (text: string): void => {
    if (finished || text === "") return
    const line = Http.parseJson(text)
    const { created_at, done, logprobs, response, thinking } = line
    if (typeof thinking === "string" && thinking !== "") sink.thinking(thinking)
    if (typeof response === "string") {
      if (response !== "") {
        if (Array.isArray(logprobs)) sink.logprobs?.(logprobs)
        sink.text(response)
        if (done === false && thinking === undefined && logprobs === undefined) {
          template.learn(`${text}\n`, response, created_at)
        }
      }
    } else if (line["error"] !== undefined) {
      throw Http.reported(line)
    } else if (line["done"] !== true) throw new Http.Malformed(`no response in ${text.slice(0, 200)}`)
    if (line["done"] === true) {
      finished = true
      sink.finish(finish(line))
    }
  }
  const lines = Lines.within(
    (text, from, to) => take(text.slice(from, to)),
    (text, from) => (finished ? from : template.read(text, from, say))
  )
  return {
    feed: (bytes) => lines.feed(bytes),
    end: () => lines.end(),
    broke: () => {},
    finished: () => finished
  }
}
