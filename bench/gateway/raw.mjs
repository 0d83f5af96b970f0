// The floor: whatever comes is sent on, and whatever comes back is sent back, by hand on node:http and undici.
import { createServer } from "node:http"
import { Agent, request } from "undici"

const [upstream] = process.argv.slice(2)
const dispatcher = new Agent({ pipelining: 1, connections: null })

const server = createServer({ noDelay: true }, (req, res) => {
  const parts = []
  req.on("data", (part) => parts.push(part))
  req.on("end", async () => {
    try {
      const { body, headers, statusCode } = await request(upstream + req.url, {
        method: req.method,
        headers: { "content-type": "application/json" },
        body: parts.length === 0 ? null : Buffer.concat(parts),
        dispatcher
      })
      res.writeHead(statusCode, { "content-type": headers["content-type"] })
      body.pipe(res)
      res.on("close", () => body.destroy())
      body.on("error", () => res.destroy())
    } catch {
      res.writeHead(502).end()
    }
  })
})
server.listen(0, "127.0.0.1", () =>
  process.stdout.write(`${JSON.stringify({ url: `http://127.0.0.1:${server.address().port}` })}\n`)
)
