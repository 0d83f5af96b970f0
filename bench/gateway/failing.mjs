// Fake OpenAI servers on loopback, a tenth of which fails at any time, each in its own way; who fails changes all the
// time. What they say depends on what they are asked alone, so every byte of an answer can be checked.
import { createServer } from "node:net"
import { tokensOf } from "./said.mjs"

const [count = "20", pace = "200", share = "0.1"] = process.argv.slice(2)
const model = "soak"
const ways = ["refuse", "500", "cut", "stall", "garbage"]
const failing = new Map()
const reshuffle = () => {
  failing.clear()
  for (let i = 0; i < Math.round(Number(count) * Number(share)); i++) {
    failing.set(Math.floor(Math.random() * Number(count)), ways[Math.floor(Math.random() * ways.length)])
  }
}
setInterval(reshuffle, 3_000)

const chunk = (text) => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`
const event = (delta, finish_reason) =>
  chunk(
    `data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", created: 1, model, choices: [{ index: 0, delta, finish_reason }] })}\n\n`
  )
const list = JSON.stringify({ object: "list", data: [{ id: model, object: "model" }] })
const head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

const serve = (number) =>
  new Promise((resolve) => {
    const server = createServer({ noDelay: true }, (socket) => {
      let text = ""
      socket.on("error", () => {})
      socket.on("data", (part) => {
        text += part
        const end = text.indexOf("\r\n\r\n")
        if (end === -1) return
        const length = Number(/content-length: (\d+)/i.exec(text.slice(0, end))?.[1] ?? 0)
        if (text.length < end + 4 + length) return
        const target = /^\w+ (\S+)/.exec(text)?.[1] ?? ""
        const body = text.slice(end + 4, end + 4 + length)
        text = text.slice(end + 4 + length)
        if (target === "/v1/models")
          return socket.write(
            `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${list.length}\r\n\r\n${list}`
          )
        if (length === 0) return socket.write("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        const way = failing.get(number)
        if (way === "refuse") return socket.resetAndDestroy()
        if (way === "500") return socket.write("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n")
        if (way === "garbage")
          return socket.end("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<html></html>")
        const question = JSON.parse(body).messages.find(({ role }) => role === "user")?.content ?? ""
        const tokens = tokensOf(question)
        const breaks = way === undefined ? -1 : Math.floor(Math.random() * tokens.length)
        let i = 0
        socket.write(head)
        const timer = setInterval(() => {
          if (socket.destroyed) return clearInterval(timer)
          if (i === breaks) {
            clearInterval(timer)
            if (way === "cut") socket.destroy()
            return
          }
          if (i < tokens.length) socket.write(event({ content: tokens[i++] }, null))
          else {
            clearInterval(timer)
            socket.write(`${event({}, "stop")}${chunk("data: [DONE]\n\n")}0\r\n\r\n`)
          }
        }, Number(pace))
      })
    })
    server.listen(0, "127.0.0.1", () => resolve(server.address().port))
  })

const ports = await Promise.all(Array.from({ length: Number(count) }, (_, i) => serve(i)))
process.send(ports)
process.on("disconnect", () => process.exit())
