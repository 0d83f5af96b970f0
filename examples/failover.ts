/** A server that breaks in the middle of an answer: another one goes on at the exact place. Both are made here. */
import { createServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { createCortex } from "aicortex/promise"

const words = "The sky looks blue because air scatters short wavelengths the most.".match(/\s*\S+/g) ?? []

/** As much of Ollama as this needs. One that breaks writes five words and is gone. */
const startServer = async (breaks: boolean) => {
  const write = (response: ServerResponse, pieces: ReadonlyArray<string>, piece: (text: string) => object) => {
    for (const text of pieces) response.write(`${JSON.stringify({ model: "m", ...piece(text), done: false })}\n`)
    if (breaks) setTimeout(() => server.closeAllConnections(), 50)
    else response.end(`${JSON.stringify({ model: "m", ...piece(""), done: true, done_reason: "stop" })}\n`)
  }
  const server = createServer(async (request, response) => {
    let body = ""
    for await (const part of request) body += part
    const requestBody = body === "" ? {} : JSON.parse(body)
    const reply = (value: object) => response.end(JSON.stringify(value))
    if (request.url === "/api/tags") return reply({ models: [{ name: "m:latest", model: "m:latest" }] })
    if (request.url === "/api/version") return reply({ version: "0.13.0" })
    if (request.url === "/api/chat") {
      if (requestBody._debug_render_only) return reply({ _debug_info: { rendered_template: "user: …\nassistant: " } })
      return write(response, words.slice(0, breaks ? 5 : undefined), (content) => ({
        message: { role: "assistant", content }
      }))
    }
    // To go on, the prompt ends with the text so far.
    if (request.url === "/api/generate") {
      const given = words.findLastIndex((_, i) => String(requestBody.prompt).endsWith(words.slice(0, i + 1).join("")))
      return write(response, words.slice(given + 1), (text) => ({ response: text }))
    }
    response.statusCode = 404
    return response.end()
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

const [first, second] = [await startServer(true), await startServer(false)]
const cortex = createCortex({
  configFile: false,
  servers: [
    { url: first.url, priority: 0 },
    { url: second.url, priority: 1 }
  ]
})
for await (const event of await cortex.chat("Why is the sky blue?", { model: "m", stream: true })) {
  if (event.type === "token") process.stdout.write(event.content)
  if (event.type === "error") process.stdout.write(" [the server is gone]")
  if (event.type === "end") console.log(`\nafter ${event.attempts.length} failed attempt`)
}
// => The sky looks blue because [the server is gone] air scatters short wavelengths the most.
// => after 1 failed attempt

await cortex.close()
for (const { server } of [first, second]) server.close()
