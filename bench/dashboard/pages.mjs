// Open pages, as the gateway sees them: the events, the requests once, and the fleet every five seconds.
import { Agent, get } from "node:http"

const port = Number(process.argv[2])
const agent = new Agent({ keepAlive: true, maxSockets: 1_000 })
const pollTime = 5_000

let bytes = 0
const read = (path) =>
  new Promise((resolve, reject) => {
    get({ host: "127.0.0.1", port, path, agent }, (response) => {
      response.on("data", (part) => {
        bytes += part.length
      })
      response.on("end", () =>
        response.statusCode === 200 ? resolve() : reject(new Error(`${path}: ${response.statusCode}`))
      )
    }).on("error", reject)
  })

const fail = (error) => {
  process.stderr.write(`${error.stack}\n`)
  process.exit(1)
}

const openPage = async () => {
  let poll
  const stream = get({ host: "127.0.0.1", port, path: "/events?types=fleet,request,download,model" }, (response) => {
    response.on("data", (part) => {
      bytes += part.length
    })
    response.on("error", () => {})
  })
  stream.on("error", () => {})
  await Promise.all([read("/fleet"), read("/requests"), new Promise((resolve) => stream.once("response", resolve))])
  const started = setTimeout(() => {
    poll = setInterval(() => read("/fleet").catch(fail), pollTime)
  }, Math.random() * pollTime)
  return () => {
    clearTimeout(started)
    clearInterval(poll)
    stream.destroy()
  }
}

const pages = []
process.on("message", async ({ pages: count }) => {
  while (pages.length > count) pages.pop()()
  while (pages.length < count) pages.push(await openPage().catch(fail))
})
process.send({ open: 0, bytes })
setInterval(() => process.send({ open: pages.length, bytes }), 100)
process.on("disconnect", () => process.exit())
