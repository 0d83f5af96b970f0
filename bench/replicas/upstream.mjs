// A server that answers each question with what it was asked, 10 tokens for 10.
import { createServer } from "node:http"

const usage = { prompt_tokens: 10, completion_tokens: 10, total_tokens: 20 }

export const answerTo = (question) => `the answer to ${question}, in full`

/** `delay` in milliseconds. */
export const start = (host, delay) => {
  const server = createServer((request, response) => {
    const parts = []
    request.on("data", (part) => parts.push(part))
    request.on("end", () => {
      const json = (body) => {
        response.writeHead(200, { "content-type": "application/json" })
        response.end(JSON.stringify(body))
      }
      if (!request.url.endsWith("/chat/completions")) {
        if (request.url.endsWith("/models")) return json({ object: "list", data: [{ id: "m", object: "model" }] })
        response.writeHead(404).end()
        return
      }
      const { messages, stream } = JSON.parse(Buffer.concat(parts).toString())
      const content = answerTo(messages.at(-1).content)
      setTimeout(() => {
        const base = { id: "c", created: 1, model: "m" }
        if (stream !== true) {
          const choices = [{ index: 0, message: { role: "assistant", content }, finish_reason: "stop" }]
          return json({ ...base, object: "chat.completion", choices, usage })
        }
        const event = (choices, more = {}) =>
          response.write(`data: ${JSON.stringify({ ...base, object: "chat.completion.chunk", choices, ...more })}\n\n`)
        response.writeHead(200, { "content-type": "text/event-stream" })
        for (const word of content.match(/\s*\S+/g))
          event([{ index: 0, delta: { content: word }, finish_reason: null }])
        event([{ index: 0, delta: {}, finish_reason: "stop" }])
        event([], { usage })
        response.end("data: [DONE]\n\n")
      }, delay)
    })
  })
  server.keepAliveTimeout = 60_000
  return new Promise((resolve) => server.listen(0, host, () => resolve({ server, port: server.address().port })))
}
