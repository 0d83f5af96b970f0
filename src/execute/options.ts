/** The options of `execute`, checked before anything is sent. */
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import * as ChatRequest from "../ChatRequest.js"
import { InvalidRequest } from "../Errors.js"
import { decoder, optional, withoutNulls } from "../internal/optionSchemas.js"
import { automatic } from "../modelSelection/candidate.js"
import type { Output } from "./terminal.js"

/**
 * What to answer, and how. All plain options of a chat are allowed too, such as `temperature` (default 0.7), `topP`
 * (default 1), `maxTokens` (default: the server's), `system`, `private` and `deadline`: see `ChatRequest.Options`.
 *
 * @since 0.2.0
 * @category models
 */
export interface Options extends Omit<ChatRequest.Options, "tools" | "toolChoice"> {
  /** The question; with `chat` the first one. */
  readonly prompt: string
  /** Whether further questions are read from the terminal, until its end or `exit`. Default `false`. */
  readonly chat?: boolean | undefined
  /**
   * Whether the answer is written to the terminal as it comes. With `chat` each is written in any case. Default `true`.
   */
  readonly stream?: boolean | undefined
  /** The conversation to continue. Default: none, and with `chat` a new one. */
  readonly sessionId?: string | undefined
  /** The name of the request in the result. Default: a new one. */
  readonly requestId?: string | undefined
  /** Whether a line with the metrics follows an answer that is written. Default `true`. */
  readonly displayMetrics?: boolean | undefined
  /** Where answers are written to. Default: the terminal, where there is one. */
  readonly output?: Output | undefined
  /** The further questions of `chat`, one each. Default: the lines of the terminal. */
  readonly input?: AsyncIterable<string> | Iterable<string> | undefined
}

export interface Checked {
  readonly prompt: string
  readonly chat: boolean
  readonly stream: boolean
  readonly sessionId: string | undefined
  readonly requestId: string
  readonly displayMetrics: boolean
  readonly output: Output | undefined
  readonly input: Options["input"]
  /** The options of each question. */
  readonly options: ChatRequest.Options & { readonly model: string }
}

const isOutput = (value: unknown): value is Output =>
  typeof value === "object" && value !== null && typeof (value as Partial<Output>).write === "function"

const isInput = (value: unknown): value is AsyncIterable<string> | Iterable<string> =>
  typeof value === "object" && value !== null && (Symbol.asyncIterator in value || Symbol.iterator in value)

const own = {
  prompt: Schema.String.pipe(Schema.filter((text) => (text.trim() === "" ? "is empty; ask something" : undefined))),
  chat: optional(Schema.Boolean),
  stream: optional(Schema.Boolean),
  sessionId: optional(Schema.NonEmptyString),
  requestId: optional(Schema.NonEmptyString),
  displayMetrics: optional(Schema.Boolean),
  output: optional(
    Schema.Any.pipe(Schema.filter((value) => isOutput(value) || "must have a function write, as process.stdout has"))
  ),
  input: optional(
    Schema.Any.pipe(Schema.filter((value) => isInput(value) || "must be an iterable of texts, one for each question"))
  )
}

const { tools: _tools, toolChoice: _toolChoice, ...plain } = ChatRequest.Options.fields

const decode = decoder(Schema.Struct({ ...plain, ...own }), ["tools", "toolChoice"])

const makeId = (): string => globalThis.crypto.randomUUID()

/** The options with their defaults. */
export const check = (given: unknown): Either.Either<Checked, InvalidRequest> => {
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    return Either.left(new InvalidRequest({ field: "options", reason: "must be an object: { prompt, … }" }))
  }
  const asked = withoutNulls(given as Partial<Options>)
  if (asked.prompt === undefined) {
    return Either.left(new InvalidRequest({ field: "prompt", reason: "is missing; ask something" }))
  }
  return Either.map(decode(asked), (decoded) => {
    const { chat, displayMetrics, input, output, prompt, requestId, sessionId, stream, ...options } = decoded
    return {
      prompt,
      chat: chat ?? false,
      stream: stream ?? true,
      sessionId,
      requestId: requestId ?? makeId(),
      displayMetrics: displayMetrics ?? true,
      output,
      input,
      options: { ...options, model: options.model ?? automatic }
    }
  })
}
