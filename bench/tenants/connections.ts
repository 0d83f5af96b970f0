/** What an attacker does with connections: asks as fast as it is answered, or does not behave as a client should. */
import { connect, type Socket } from "node:net"
import { setTimeout as sleep } from "node:timers/promises"

/** What an attack came to: answers by their status, connections, and bytes that were sent. */
export interface Damage {
  readonly statuses: Record<string, number>
  connections: number
  bytes: number
}

/** The attacker's own way into the network, in bytes per second: 1 Gbit/s. */
const linkRate = 125_000_000

/** An address of its own, as a remote client would have. */
const localAddress = process.platform === "linux" ? "127.0.0.2" : "127.0.0.1"

const endOfChunks = Buffer.from("0\r\n\r\n")

/** A request as bytes. */
export const http = (
  key: string,
  path: string,
  body?: string | Buffer,
  { headers = "", method = body === undefined ? "GET" : "POST" } = {}
): Buffer => {
  const length =
    body === undefined ? "" : `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n`
  const head = `${method} ${path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${key}\r\n${length}${headers}\r\n`
  return Buffer.concat([Buffer.from(head), Buffer.from(body ?? "")])
}

/** All that one attack does with connections; ends with it. */
export class Attack {
  readonly damage: Damage = { statuses: {}, connections: 0, bytes: 0 }
  private readonly sockets = new Set<Socket>()
  private free = performance.now()
  private over = false

  constructor(
    private readonly port: number,
    private readonly until: number
  ) {}

  get isOver(): boolean {
    return this.over || performance.now() >= this.until
  }

  /** Ends when the time is over, with all connections. */
  async last(work: ReadonlyArray<Promise<void>>): Promise<Damage> {
    await sleep(Math.max(0, this.until - performance.now()))
    this.over = true
    for (const socket of this.sockets) socket.destroy()
    await Promise.all(work)
    return this.damage
  }

  /** Waits until the link has sent so many bytes. */
  private async link(bytes: number): Promise<void> {
    this.damage.bytes += bytes
    const now = performance.now()
    this.free = Math.max(now - 10, this.free) + (bytes / linkRate) * 1_000
    if (this.free > now + 1) await sleep(this.free - now)
  }

  /** `undefined` where there is no connection to be had. */
  async open(): Promise<Socket | undefined> {
    const socket = connect({ port: this.port, host: "127.0.0.1", localAddress, noDelay: true })
    this.sockets.add(socket)
    this.damage.connections++
    socket.on("error", () => {})
    socket.once("close", () => this.sockets.delete(socket))
    await new Promise((resolve) => {
      socket.once("connect", resolve)
      socket.once("close", resolve)
    })
    if (!socket.destroyed) return socket
    await sleep(5)
    return undefined
  }

  /** Sends no faster than the link and the gateway take it. */
  async send(socket: Socket, bytes: Buffer): Promise<void> {
    const piece = 256 * 1024
    for (let at = 0; at < bytes.length && !socket.destroyed && !this.isOver; at += piece) {
      const part = bytes.subarray(at, at + piece)
      await this.link(part.length)
      if (socket.destroyed || socket.write(part)) continue
      await new Promise<void>((resolve) => {
        const go = () => {
          socket.off("drain", go)
          socket.off("close", go)
          resolve()
        }
        socket.on("drain", go)
        socket.on("close", go)
      })
    }
  }

  /** Until the connection closes, or the attack is over. */
  closed(socket: Socket): Promise<void> {
    return socket.destroyed ? Promise.resolve() : new Promise((resolve) => socket.once("close", () => resolve()))
  }

  /** `clients` connections ask one request after the other, as soon as each is answered. */
  ask(clients: number, next: () => Buffer): ReadonlyArray<Promise<void>> {
    return Array.from({ length: clients }, async () => {
      while (!this.isOver) {
        const socket = await this.open()
        if (socket === undefined) continue
        while (!socket.destroyed && !this.isOver) {
          const answered = this.answer(socket)
          await this.send(socket, next())
          await answered
        }
        socket.destroy()
      }
    })
  }

  /** One answer, to its end or to the connection's. */
  private answer(socket: Socket): Promise<void> {
    return new Promise((resolve) => {
      let length: number | undefined
      let got = 0
      let closes = false
      const over = () => {
        socket.off("data", data)
        socket.off("close", over)
        if (closes) socket.destroy()
        resolve()
      }
      const data = (part: Buffer) => {
        if (length === undefined) {
          const head = part.indexOf("\r\n\r\n")
          const text = part.toString("latin1", 0, head === -1 ? part.length : head + 4)
          const status = text.slice(9, 12)
          this.damage.statuses[status] = (this.damage.statuses[status] ?? 0) + 1
          length = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? -1)
          closes = /connection: close/i.test(text)
          got = head === -1 ? 0 : part.length - (head + 4)
        } else got += part.length
        if (length >= 0 ? got >= length : part.subarray(-endOfChunks.length).equals(endOfChunks)) over()
      }
      socket.on("data", data)
      socket.on("close", over)
    })
  }

  /** `count` connections, each of which does something and is opened again when the gateway closes it. */
  hold(count: number, act: (socket: Socket, at: number) => Promise<void>): ReadonlyArray<Promise<void>> {
    return Array.from({ length: count }, async (_, at) => {
      while (!this.isOver) {
        const socket = await this.open()
        if (socket === undefined) continue
        await act(socket, at)
        await this.closed(socket)
        await sleep(20)
      }
    })
  }
}
