// Four fake servers of the OpenAI protocol on loopback, which write a token each half second.
import { createServer } from "node:http"

const model = "m"
/** Answers have up to half more or less, so that as many end at any time. */
const tokens = 60
const interval = 500

const piece = (delta, finish) =>
  `data: ${JSON.stringify({ id: "1", object: "chat.completion.chunk", created: 1, model, choices: [{ index: 0, delta, finish_reason: finish }] })}\n\n`
const token = piece({ content: " word" }, null)
const end = `${piece({}, "stop")}data: ${JSON.stringify({ id: "1", object: "chat.completion.chunk", created: 1, model, choices: [], usage: { prompt_tokens: 9, completion_tokens: tokens, total_tokens: tokens + 9 } })}\n\ndata: [DONE]\n\n`

/** One timer for all answers: their number must not decide how even they are. */
const answers = new Set()
const ticks = 50
let turn = 0
let written = 0
setInterval(() => {
  turn = (turn + 1) % ticks
  for (const answer of answers) {
    if (answer.turn !== turn) continue
    if (++answer.sent <= answer.length) {
      answer.response.write(token)
      written++
    } else {
      answers.delete(answer)
      answer.response.end(end)
    }
  }
}, interval / ticks)

let count = 0
const serve = () =>
  new Promise((resolve) => {
    const server = createServer((request, response) => {
      request.resume()
      if (request.url.endsWith("/models")) {
        response.setHeader("content-type", "application/json")
        response.end(JSON.stringify({ object: "list", data: [{ id: model, object: "model" }] }))
      } else if (request.url.endsWith("/chat/completions")) {
        response.writeHead(200, { "content-type": "text/event-stream" })
        response.write(token)
        const answer = { response, sent: 1, length: Math.round(tokens * (0.5 + Math.random())), turn: count++ % ticks }
        answers.add(answer)
        response.on("close", () => answers.delete(answer))
      } else {
        response.writeHead(404)
        response.end("{}")
      }
    })
    server.keepAliveTimeout = 120_000
    server.listen(0, "127.0.0.1", () => resolve(server.address().port))
  })

const ports = await Promise.all([serve(), serve(), serve(), serve()])
process.send({ ports, written })
setInterval(() => process.send({ ports, written }), 100)
process.on("disconnect", () => process.exit())
