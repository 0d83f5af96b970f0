/**
 * A fake Ollama and a fake OpenAI on loopback, as light as they can be: every answer is a prebuilt buffer and HTTP is
 * read by hand, so that they keep up with any client. They run in their own process; their CPU is not counted.
 *
 * Each protocol has one port per scenario:
 * - `call`: about 250 bytes of text in 12 tokens; as one JSON body, or (when asked to stream) as lines in one write
 * - `trickle`: 200 tokens, one write each, far enough apart that a client reads them one by one
 * - `burst`: the same 200 tokens in one write, still an HTTP chunk each, as a busy network hands them over
 */
import * as Net from "node:net"

export type Protocol = "ollama" | "openai"
export type Scenario = "call" | "trickle" | "burst"
export type Addresses = { readonly [P in Protocol]: { readonly [S in Scenario]: string } }

export const model = "bench:1b"
export const prompt = "Why is the sky blue?"

const callTokens = [
  "Sunlight is a mixture ",
  "of every colour; the ",
  "molecules of the air ",
  "scatter its short, ",
  "blue waves far more ",
  "than the long, red ",
  "ones (Rayleigh's law). ",
  "So blue reaches the ",
  "eye from everywhere, ",
  "and at dusk – after a ",
  "long way through air – ",
  "the red is left over."
]

const words = ' the| light| of| a| star|,| scat|ters| "blue"| café|.|\n| and| 42'.split("|")
const streamTokens = Array.from({ length: 200 }, (_, index) => words[(index * 5) % words.length] ?? "")

export const tokensPerStream = streamTokens.length

/** What every client must make of an answer. */
export const expected: { readonly [S in Scenario]: string } = {
  call: callTokens.join(""),
  trickle: streamTokens.join(""),
  burst: streamTokens.join("")
}

const createdAt = "2026-01-01T12:00:00.123456789Z"
const created = 1767268800

const ollamaFinal = (tokens: number) => ({
  done: true,
  done_reason: "stop",
  total_duration: 48006017,
  load_duration: 851970,
  prompt_eval_count: 16,
  prompt_eval_duration: 38312000,
  eval_count: tokens,
  eval_duration: 868000
})

const ollamaMessage = (content: string) => ({ model, created_at: createdAt, message: { role: "assistant", content } })

const ollamaLines = (tokens: ReadonlyArray<string>): ReadonlyArray<string> => [
  ...tokens.map((token) => `${JSON.stringify({ ...ollamaMessage(token), done: false })}\n`),
  `${JSON.stringify({ ...ollamaMessage(""), ...ollamaFinal(tokens.length) })}\n`
]

const openaiChunk = (delta: object, finish_reason: string | null) => ({
  id: "chatcmpl-1",
  object: "chat.completion.chunk",
  created,
  model,
  system_fingerprint: "fp_bench",
  choices: [{ index: 0, delta, finish_reason }]
})

const openaiUsage = (tokens: number) => ({
  prompt_tokens: 16,
  completion_tokens: tokens,
  total_tokens: 16 + tokens
})

const sse = (value: object) => `data: ${JSON.stringify(value)}\n\n`

const openaiEvents = (tokens: ReadonlyArray<string>, usage: boolean): ReadonlyArray<string> => [
  ...tokens.map((content) => sse(openaiChunk({ role: "assistant", content }, null))),
  sse(openaiChunk({}, "stop")) +
    (usage ? sse({ ...openaiChunk({}, null), choices: [], usage: openaiUsage(tokens.length) }) : "") +
    "data: [DONE]\n\n"
]

const keepAlive = "connection: keep-alive\r\nkeep-alive: timeout=120\r\n"

/** A whole response with a body of known length. */
const whole = (status: string, type: string, body: string) =>
  Buffer.from(
    `HTTP/1.1 ${status}\r\ncontent-type: ${type}\r\n` +
      `content-length: ${Buffer.byteLength(body)}\r\n${keepAlive}\r\n${body}`
  )

const json = (body: object, status = "200 OK", type = "application/json; charset=utf-8") =>
  whole(status, type, JSON.stringify(body))

const chunk = (text: string) => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`

/** A chunked response as the writes that make it: one per piece, the head with the first, the end with the last. */
const chunked = (type: string, pieces: ReadonlyArray<string>): ReadonlyArray<Buffer> =>
  pieces.map((piece, index) => {
    const head = `HTTP/1.1 200 OK\r\ncontent-type: ${type}\r\ntransfer-encoding: chunked\r\n${keepAlive}\r\n`
    return Buffer.from((index === 0 ? head : "") + chunk(piece) + (index === pieces.length - 1 ? "0\r\n\r\n" : ""))
  })

interface Answers {
  readonly plain: Buffer
  readonly stream: ReadonlyArray<Buffer>
  /** With the usage, for who asked for it. */
  readonly streamUsage: ReadonlyArray<Buffer>
}

const tokensOf = (scenario: Scenario) => (scenario === "call" ? callTokens : streamTokens)
const writesOf = (scenario: Scenario, type: string, pieces: ReadonlyArray<string>): ReadonlyArray<Buffer> => {
  const writes = chunked(type, pieces)
  return scenario === "trickle" ? writes : [Buffer.concat(writes)]
}

const answers = (protocol: Protocol, scenario: Scenario): Answers => {
  const tokens = tokensOf(scenario)
  const text = tokens.join("")
  if (protocol === "ollama") {
    const stream = writesOf(scenario, "application/x-ndjson", ollamaLines(tokens))
    return { plain: json({ ...ollamaMessage(text), ...ollamaFinal(tokens.length) }), stream, streamUsage: stream }
  }
  return {
    plain: json({
      id: "chatcmpl-1",
      object: "chat.completion",
      created,
      model,
      system_fingerprint: "fp_bench",
      choices: [{ index: 0, message: { role: "assistant", content: text }, finish_reason: "stop" }],
      usage: openaiUsage(tokens.length)
    }),
    stream: writesOf(scenario, "text/event-stream", openaiEvents(tokens, false)),
    streamUsage: writesOf(scenario, "text/event-stream", openaiEvents(tokens, true))
  }
}

const listed = {
  name: model,
  model,
  modified_at: createdAt,
  size: 1321098329,
  digest: "a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72",
  details: {
    parent_model: "",
    format: "gguf",
    family: "llama",
    families: ["llama"],
    parameter_size: "1.2B",
    quantization_level: "Q8_0"
  },
  capabilities: ["completion"]
}

const openaiModel = { id: model, object: "model", created, owned_by: "library" }
const openaiModels = json({ object: "list", data: [openaiModel] }, "200 OK", "application/json")

/** The control calls that a client may make before its first chat. */
const controls: { readonly [P in Protocol]: { readonly [route: string]: Buffer } } = {
  ollama: {
    "GET /": whole("200 OK", "text/plain; charset=utf-8", "Ollama is running"),
    "GET /api/version": json({ version: "0.33.0" }),
    "GET /api/tags": json({ models: [listed] }),
    "GET /api/ps": json({
      models: [{ ...listed, expires_at: "2318-01-01T00:00:00Z", size_vram: 0, context_length: 4096 }]
    }),
    "POST /api/show": json({
      parameters: "",
      template: "{{ .Prompt }}",
      details: listed.details,
      model_info: { "general.architecture": "llama", "llama.context_length": 4096 },
      capabilities: listed.capabilities,
      modified_at: createdAt
    }),
    "GET /v1/models": openaiModels
  },
  openai: {
    "GET /v1/models": openaiModels,
    [`GET /v1/models/${model}`]: json(openaiModel)
  }
}

const chatRoute: { readonly [P in Protocol]: string } = {
  ollama: "POST /api/chat",
  openai: "POST /v1/chat/completions"
}
const notFound = whole("404 Not Found", "text/plain", "404 page not found")

/** Gives every running stream its next token on each tick; a late tick never gives two. */
const makePacer = (tick: number) => {
  const running = new Set<{ readonly socket: Net.Socket; readonly writes: ReadonlyArray<Buffer>; next: number }>()
  let timer: NodeJS.Timeout | undefined
  const step = () => {
    timer = undefined
    for (const entry of running) {
      const buffer = entry.writes[entry.next++]
      if (buffer !== undefined && !entry.socket.destroyed) entry.socket.write(buffer)
      if (entry.next >= entry.writes.length || entry.socket.destroyed) running.delete(entry)
    }
    if (running.size > 0) timer = setTimeout(step, tick)
  }
  return (socket: Net.Socket, writes: ReadonlyArray<Buffer>) => {
    running.add({ socket, writes, next: 0 })
    if (timer === undefined) timer = setTimeout(step, tick)
  }
}

const headEnd = Buffer.from("\r\n\r\n")

const listen = async (protocol: Protocol, scenario: Scenario, tick: number): Promise<string> => {
  const { plain, stream, streamUsage } = answers(protocol, scenario)
  const pace = makePacer(tick)

  const answer = (socket: Net.Socket, route: string, body: string) => {
    if (route !== chatRoute[protocol]) {
      socket.write(controls[protocol][route] ?? notFound)
      return
    }
    // Ollama streams unless told not to, OpenAI when told to.
    const streaming = protocol === "ollama" ? !body.includes('"stream":false') : body.includes('"stream":true')
    if (!streaming) {
      socket.write(plain)
      return
    }
    const writes = body.includes('"include_usage":true') ? streamUsage : stream
    if (scenario === "trickle") pace(socket, writes)
    else for (const buffer of writes) socket.write(buffer)
  }

  const server = Net.createServer({ noDelay: true }, (socket) => {
    let pending: Buffer = Buffer.alloc(0)
    socket.on("error", () => socket.destroy())
    socket.on("data", (data: Buffer) => {
      pending = pending.length === 0 ? data : Buffer.concat([pending, data])
      for (;;) {
        const end = pending.indexOf(headEnd)
        if (end < 0) return
        const head = pending.toString("latin1", 0, end)
        const length = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0)
        const total = end + headEnd.length + length
        if (pending.length < total) return
        const body = pending.toString("latin1", end + headEnd.length, total)
        pending = pending.subarray(total)
        answer(socket, head.slice(0, head.indexOf(" ", head.indexOf(" ") + 1)), body)
      }
    })
  })
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve))
  return `http://127.0.0.1:${(server.address() as Net.AddressInfo).port}`
}

/** Starts all of them; `tick` is the gap between two tokens of a trickle, in milliseconds. */
export const start = async (tick: number): Promise<Addresses> => {
  const of = async (protocol: Protocol) => ({
    call: await listen(protocol, "call", tick),
    trickle: await listen(protocol, "trickle", tick),
    burst: await listen(protocol, "burst", tick)
  })
  return { ollama: await of("ollama"), openai: await of("openai") }
}
