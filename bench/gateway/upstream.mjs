// A fake OpenAI server and a fake Ollama on loopback, as light as they can be: prebuilt answers, HTTP read by hand.
// The model's name says how it answers: `call`, `burst` or `paced`.
import { createServer } from "node:net"

const callTokens = "Sunlight is a mixture of every colour; the air scatters blue far more than red.".match(/\s*\S+/g)
const streamTokens = Array.from({ length: 100 }, (_, i) => ` word${i}`)
const paceTime = 2

const json = (body) => JSON.stringify(body)
const chunk = (text) => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`
const head = (type) => `HTTP/1.1 200 OK\r\ncontent-type: ${type}\r\ntransfer-encoding: chunked\r\n\r\n`
const whole = (body, type = "application/json") =>
  Buffer.from(`HTTP/1.1 200 OK\r\ncontent-type: ${type}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)

const openai = {
  pieces: (model, tokens) => [
    ...tokens.map(
      (content) =>
        `data: ${json({ id: "chatcmpl-1", object: "chat.completion.chunk", created: 1767268800, model, choices: [{ index: 0, delta: { content }, finish_reason: null }] })}\n\n`
    ),
    `data: ${json({ id: "chatcmpl-1", object: "chat.completion.chunk", created: 1767268800, model, choices: [{ index: 0, delta: {}, finish_reason: "stop" }] })}\n\ndata: ${json({ id: "chatcmpl-1", object: "chat.completion.chunk", created: 1767268800, model, choices: [], usage: { prompt_tokens: 9, completion_tokens: tokens.length, total_tokens: 9 + tokens.length } })}\n\ndata: [DONE]\n\n`
  ],
  type: "text/event-stream",
  whole: (model, tokens) =>
    json({
      id: "chatcmpl-1",
      object: "chat.completion",
      created: 1767268800,
      model,
      choices: [{ index: 0, message: { role: "assistant", content: tokens.join("") }, finish_reason: "stop" }],
      usage: { prompt_tokens: 9, completion_tokens: tokens.length, total_tokens: 9 + tokens.length }
    })
}
const ollamaLine = (model, content, rest) =>
  json({ model, created_at: "2026-01-01T12:00:00.123456789Z", message: { role: "assistant", content }, ...rest })
const ollamaEnd = (n) => ({
  done: true,
  done_reason: "stop",
  prompt_eval_count: 9,
  eval_count: n,
  eval_duration: 868000
})
const ollama = {
  pieces: (model, tokens) => [
    ...tokens.map((content) => `${ollamaLine(model, content, { done: false })}\n`),
    `${ollamaLine(model, "", ollamaEnd(tokens.length))}\n`
  ],
  type: "application/x-ndjson",
  whole: (model, tokens) => ollamaLine(model, tokens.join(""), ollamaEnd(tokens.length))
}

const models = ["call", "burst", "paced"]
const prepare = (dialect) =>
  new Map(
    models.map((model) => {
      const tokens = model === "call" ? callTokens : streamTokens
      const pieces = dialect.pieces(model, tokens).map(chunk)
      pieces[0] = head(dialect.type) + pieces[0]
      pieces[pieces.length - 1] += "0\r\n\r\n"
      const buffers = pieces.map((piece) => Buffer.from(piece))
      return [model, { whole: whole(dialect.whole(model, tokens)), pieces: buffers, burst: Buffer.concat(buffers) }]
    })
  )

const serve = (answers, lists) =>
  new Promise((resolve) => {
    const server = createServer({ noDelay: true }, (socket) => {
      let text = ""
      socket.on("error", () => {})
      socket.on("data", (part) => {
        text += part
        for (;;) {
          const end = text.indexOf("\r\n\r\n")
          if (end === -1) return
          const length = Number(/content-length: (\d+)/i.exec(text.slice(0, end))?.[1] ?? 0)
          if (text.length < end + 4 + length) return
          const target = /^\w+ (\S+)/.exec(text)?.[1] ?? ""
          const body = text.slice(end + 4, end + 4 + length)
          text = text.slice(end + 4 + length)
          const list = lists[target]
          if (list !== undefined) socket.write(list)
          else if (length === 0) socket.write("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
          else {
            const model = /"model":"(\w+)/.exec(body)?.[1] ?? "call"
            const answer = answers.get(model) ?? answers.get("call")
            if (!body.includes('"stream":true')) socket.write(answer.whole)
            else if (model !== "paced") socket.write(answer.burst)
            else {
              let i = 0
              const timer = setInterval(() => {
                if (socket.destroyed) clearInterval(timer)
                else socket.write(answer.pieces[i])
                if (++i === answer.pieces.length) clearInterval(timer)
              }, paceTime)
            }
          }
        }
      })
    })
    server.listen(0, "127.0.0.1", () => resolve(server.address().port))
  })

const openaiPort = await serve(prepare(openai), {
  "/v1/models": whole(json({ object: "list", data: models.map((id) => ({ id, object: "model" })) }))
})
const ollamaPort = await serve(prepare(ollama), {
  "/api/tags": whole(json({ models: models.map((name) => ({ name: `${name}:latest`, model: `${name}:latest` })) })),
  "/api/ps": whole(json({ models: [] }))
})
process.send({ openai: openaiPort, ollama: ollamaPort })
process.on("disconnect", () => process.exit())
