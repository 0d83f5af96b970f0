// Fake Ollama servers for the bench of discovery, one port each, in a process of their own: prebuilt answers, and HTTP
// read by hand. Sends the ports of living servers, and ports where nothing listens.
import { createServer } from "node:net"

const models = ["llama3.2:3b", "qwen3:8b", "mistral:7b"].map((name, i) => ({
  name,
  model: name,
  modified_at: "2026-01-01T12:00:00.123456789Z",
  size: 2019393189 + i,
  digest: "a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72",
  details: {
    parent_model: "",
    format: "gguf",
    family: "llama",
    families: ["llama"],
    parameter_size: "3.2B",
    quantization_level: "Q4_K_M"
  }
}))

const answer = (status, body) => {
  const text = JSON.stringify(body)
  return Buffer.from(
    `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`
  )
}

const answers = {
  "/api/tags": answer("200 OK", { models }),
  "/api/ps": answer("200 OK", { models: [] }),
  "/api/version": answer("200 OK", { version: "0.12.0" })
}
const missing = answer("404 Not Found", { error: "not found" })

const count = Number(process.argv[2])

const listen = (port) =>
  new Promise((resolve, reject) => {
    const server = createServer((socket) => {
      let pending = ""
      socket.setNoDelay(true)
      socket.on("error", () => {})
      socket.on("data", (data) => {
        pending += data.toString("latin1")
        for (let end = pending.indexOf("\r\n\r\n"); end >= 0; end = pending.indexOf("\r\n\r\n")) {
          const [, path = ""] = pending.split(" ", 2)
          pending = pending.slice(end + 4)
          socket.write(answers[path] ?? missing)
        }
      })
    })
    server.once("error", reject)
    server.listen(port, "127.0.0.1", 511, () => resolve(server))
  })

const living = []
for (let i = 0; i < count; i++) living.push((await listen(0)).address().port)

// Below the range that the system hands out itself, so that no connection takes them.
const refused = []
for (let port = 12_000; refused.length < count; port++) {
  try {
    const server = await listen(port)
    await new Promise((resolve) => server.close(resolve))
    refused.push(port)
  } catch {
    // Somebody listens there.
  }
}
process.send({ living, refused })
process.on("disconnect", () => process.exit())
