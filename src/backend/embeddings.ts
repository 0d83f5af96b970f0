/** Embeddings in both protocols: `POST /api/embed` and `POST /v1/embeddings`. Answers are read completely. */
import type { Backend, EmbedSink } from "../Backend.js"
import type { EmbedRequest } from "../EmbedRequest.js"
import type { Unsupported } from "../Errors.js"
import { tooLong } from "../internal/answerSize.js"
import { apiOf, type Server } from "../Server.js"
import type { Service as Transport } from "../Transport.js"
import { TransferMeter } from "../transport/transfer.js"
import * as Http from "./http.js"

const text = new TextDecoder()

interface EmbeddingReply {
  readonly embeddings: ReadonlyArray<ReadonlyArray<number>>
  readonly promptTokens: number | undefined
}

type Body = ReturnType<typeof Http.parseJson>

/** The requests and answers of one protocol. */
interface EmbeddingDialect {
  readonly url: (server: Server) => string
  readonly cannot: (request: EmbedRequest) => ReadonlyArray<Unsupported>
  readonly body: (request: EmbedRequest) => object
  readonly vectors: (body: Body) => unknown
  readonly tokens: (body: Body) => unknown
}

const isVector = (value: unknown): value is ReadonlyArray<number> =>
  Array.isArray(value) && value.every((one) => typeof one === "number")

class WholeReader implements Http.Decoder {
  answer: EmbeddingReply | undefined
  readonly meter = new TransferMeter()
  private readonly parts: Array<Uint8Array> = []
  private bytes = 0

  constructor(
    private readonly dialect: EmbeddingDialect,
    private readonly n: number,
    private readonly maxBytes: number
  ) {}

  feed(read: Uint8Array): void {
    this.bytes += read.length
    this.meter.read(read.length)
    if (this.bytes > this.maxBytes) throw new Http.Malformed(tooLong(this.maxBytes))
    // Copied, because the reader may reuse its buffer.
    this.parts.push(new Uint8Array(read))
  }

  end(): void {
    const all = new Uint8Array(this.bytes)
    let at = 0
    for (const part of this.parts) {
      all.set(part, at)
      at += part.length
    }
    const body = Http.parseJson(text.decode(all))
    const embeddings = this.dialect.vectors(body)
    if (!Array.isArray(embeddings)) {
      if (Http.errorText(body) !== undefined) throw Http.reported(body)
      throw new Http.Malformed("there are no embeddings in the answer")
    }
    if (embeddings.length !== this.n) {
      throw new Http.Malformed(`${embeddings.length} embeddings came for ${this.n} texts`)
    }
    if (!embeddings.every(isVector)) throw new Http.Malformed("an embedding is not an array of numbers")
    const tokens = this.dialect.tokens(body)
    this.answer = { embeddings, promptTokens: typeof tokens === "number" ? tokens : undefined }
  }

  /** Nothing is complete before the end. */
  broke(): void {}

  finished(): boolean {
    return this.answer !== undefined
  }
}

const make = (
  transport: Transport,
  now: () => number,
  dialect: EmbeddingDialect
): Pick<Backend, "cannotEmbed" | "embed"> => ({
  cannotEmbed: dialect.cannot,
  embed: (server, request, sink: EmbedSink) => {
    const decoder = new WholeReader(dialect, request.input.length, sink.maxBytes)
    return Http.start(
      transport,
      { server, url: dialect.url(server), accept: "application/json", body: dialect.body(request) },
      decoder,
      {
        context: sink.context,
        connected: () => sink.connected(),
        read: () => sink.read(),
        flush: () => {
          const { answer, meter } = decoder
          if (answer !== undefined) sink.embedded(answer.embeddings, answer.promptTokens, meter.transfer)
        },
        fail: (failure) => sink.fail(failure)
      },
      now
    )
  }
})

export const ollama = (transport: Transport, now: () => number) =>
  make(transport, now, {
    url: (server) => `${apiOf(server, "ollama")}/api/embed`,
    cannot: ({ input }) =>
      Array.isArray(input[0]) ? [{ field: "input", reason: "Ollama takes texts, and no tokens by their numbers" }] : [],
    body: ({ dimensions, input, keepAlive, model, options, truncate }) => ({
      model,
      input,
      truncate,
      dimensions,
      keep_alive: keepAlive,
      options
    }),
    vectors: (body) => body["embeddings"],
    tokens: (body) => body["prompt_eval_count"]
  })

const field = (value: unknown, name: string): unknown =>
  typeof value === "object" && value !== null ? (value as { readonly [name: string]: unknown })[name] : undefined

/** Most servers keep the order of the texts, but only `index` guarantees it. */
const inOrder = (data: unknown): unknown =>
  Array.isArray(data)
    ? [...(data as ReadonlyArray<unknown>)]
        .sort((a, b) => Number(field(a, "index") ?? 0) - Number(field(b, "index") ?? 0))
        .map((one) => field(one, "embedding"))
    : undefined

/** `url` is the address of a server's endpoint. */
export const openai = (transport: Transport, now: () => number, url: (server: Server) => string) =>
  make(transport, now, {
    url,
    cannot: ({ keepAlive, lenient, options, truncate }) => {
      const found: Array<Unsupported> = []
      if (lenient === true) return found
      if (keepAlive !== undefined) found.push({ field: "keepAlive", reason: "the OpenAI API has no such option" })
      if (options !== undefined && Object.keys(options).length > 0) {
        found.push({ field: "options", reason: "the OpenAI API does not take Ollama's options" })
      }
      if (truncate === true) found.push({ field: "truncate", reason: "the OpenAI API refuses texts that are too long" })
      return found
    },
    body: ({ dimensions, input, model }) => ({ model, input, encoding_format: "float", dimensions }),
    vectors: (body) => inOrder(body["data"]),
    tokens: (body) => field(body["usage"], "prompt_tokens")
  })
