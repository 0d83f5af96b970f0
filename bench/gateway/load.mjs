// A client that costs next to nothing: one prepared request per connection at a time, and the end of an answer found by
// hand.
import { connect } from "node:net"

const endOfChunks = Buffer.from("0\r\n\r\n")

/** One connection that sends the same request again and again. */
export class Client {
  constructor(port, request) {
    this.request = request
    this.socket = connect({ port, host: "127.0.0.1", noDelay: true })
    this.socket.on("data", (part) => this.data(part))
    this.socket.on("error", (error) => this.fail?.(error))
    this.socket.on("close", () => this.fail?.(new Error("the connection was closed")))
    this.ready = new Promise((resolve) => this.socket.once("connect", resolve))
  }

  data(part) {
    if (this.first === 0) {
      // The first piece may come after the headers, in a packet of its own.
      const head = part.indexOf("\r\n\r\n")
      if (this.length === undefined) {
        const text = part.toString("latin1", 0, head + 4)
        this.status = Number(text.slice(9, 12))
        this.length = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? -1)
        this.got = part.length - (head + 4)
        if (this.got > 0) this.first = performance.now()
      } else {
        this.first = performance.now()
        this.got += part.length
      }
    } else this.got += part.length
    this.bytes += part.length
    if (this.keep !== undefined) this.keep += part.toString("utf8")
    const done =
      this.length >= 0
        ? this.got >= this.length
        : part.length >= 5 && part.subarray(part.length - 5).equals(endOfChunks)
    if (done) this.finish()
  }

  /** Sends the request once. */
  once(keep = false) {
    this.first = 0
    this.length = undefined
    this.got = 0
    this.bytes = 0
    this.keep = keep ? "" : undefined
    const began = performance.now()
    return new Promise((resolve, reject) => {
      this.fail = reject
      this.finish = () =>
        resolve({ first: this.first - began, whole: performance.now() - began, status: this.status, text: this.keep })
      this.socket.write(this.request)
    })
  }
}

export const request = (path, body, headers = {}) => {
  const text = JSON.stringify(body)
  const lines = Object.entries({ host: "localhost", "content-type": "application/json", ...headers })
  return Buffer.from(
    `POST ${path} HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join("")}content-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`
  )
}

/** Sends `count` requests over `connections`, and tells how long the first piece and the whole took. */
export const load = async (port, message, connections, count) => {
  const clients = Array.from({ length: connections }, () => new Client(port, message))
  await Promise.all(clients.map(({ ready }) => ready))
  const firsts = []
  let left = count
  const began = performance.now()
  await Promise.all(
    clients.map(async (client) => {
      while (left-- > 0) {
        const { first, status } = await client.once()
        if (status !== 200) throw new Error(`status ${status}`)
        firsts.push(first)
      }
    })
  )
  const elapsed = performance.now() - began
  for (const { socket } of clients) {
    socket.removeAllListeners("close")
    socket.destroy()
  }
  return { firsts, elapsed }
}

/** Sends `count` requests at `rate` per second, or as fast as the answers come where those are slower. */
export const steady = async (port, message, connections, count, rate) => {
  const clients = Array.from({ length: connections }, () => new Client(port, message))
  await Promise.all(clients.map(({ ready }) => ready))
  const began = performance.now()
  let next = 0
  await Promise.all(
    clients.map(async (client) => {
      while (next < count) {
        const wait = began + (next++ * 1000) / rate - performance.now()
        if (wait > 0) await new Promise((resume) => setTimeout(resume, wait))
        const { status } = await client.once()
        if (status !== 200) throw new Error(`status ${status}`)
      }
    })
  )
  for (const { socket } of clients) {
    socket.removeAllListeners("close")
    socket.destroy()
  }
}

export const once = async (port, message) => {
  const client = new Client(port, message)
  await client.ready
  const { status, text } = await client.once(true)
  client.socket.removeAllListeners("close")
  client.socket.destroy()
  return { status, text }
}
