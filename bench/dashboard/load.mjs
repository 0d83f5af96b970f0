// So many streams at any time: `load.mjs PORT STREAMS`. Tells each 200 ms how many are open and how many have ended.
import { Client, request } from "../gateway/load.mjs"

const [port, streams] = process.argv.slice(2).map(Number)
const message = request("/v1/chat/completions", {
  model: "m",
  stream: true,
  messages: [{ role: "user", content: "Why is the sky blue?" }]
})
/** They begin one after the other. */
const spread = 30_000

let open = 0
let ended = 0
const run = async () => {
  const client = new Client(port, message)
  await client.ready
  for (;;) {
    open++
    const { status } = await client.once()
    if (status !== 200) throw new Error(`status ${status}`)
    open--
    ended++
  }
}
const fail = (error) => {
  process.stderr.write(`${error.stack}\n`)
  process.exit(1)
}
for (let i = 0; i < streams; i++) setTimeout(() => run().catch(fail), (spread * i) / streams)
process.send({ open, ended })
setInterval(() => process.send({ open, ended }), 200)
process.on("disconnect", () => process.exit())
