import { once } from "node:events"
import { type AddressInfo, createServer, connect as open, type Socket } from "node:net"

/** How a line behaves; all of it can be changed while it is used. */
export interface LineBehaviour {
  /** Milliseconds by which every piece from the server is late. */
  readonly delay?: number
  /** Bytes per second from the server, of all connections together. */
  readonly bytesPerSecond?: number
  /** New connections are closed at once. */
  readonly drops?: boolean
}

/** A line to a server, over which everything passes. */
export interface LineProxy extends AsyncDisposable {
  readonly url: string
  /** Replaces how it behaves. */
  readonly set: (behaviour: LineBehaviour) => void
  /** Breaks every connection; returns how many there were. */
  readonly cut: () => number
  /** Connections so far, and bytes that came from the server. */
  readonly seen: () => { readonly connections: number; readonly bytes: number }
}

/** Larger pieces would arrive in bursts. */
const piece = 4_096

/** Starts a line to a server on loopback: it delays, throttles, drops and cuts. */
export const startLineProxy = async (target: string, first: LineBehaviour = {}): Promise<LineProxy> => {
  const { hostname, port } = new URL(target)
  let behaviour = first
  let connections = 0
  let bytes = 0
  let freeAt = 0
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
    connections++
    // Whoever goes away is no error of the line.
    near.on("error", () => {})
    if (behaviour.drops === true) {
      near.destroy()
      return
    }
    const far = open({ host: hostname, port: Number(port), noDelay: true, allowHalfOpen: true })
    far.on("error", () => near.destroy())
    for (const socket of [near, far]) {
      sockets.add(socket)
      socket.once("close", () => sockets.delete(socket))
    }
    near.pipe(far)
    // What is late stays in order: nothing leaves before what came before it.
    let leavesAt = 0
    const later = (send: () => void, size: number) => {
      const now = performance.now()
      const { bytesPerSecond, delay = 0 } = behaviour
      if (bytesPerSecond !== undefined) freeAt = Math.max(freeAt, now) + (size * 1_000) / bytesPerSecond
      leavesAt = Math.max(leavesAt, now + delay, bytesPerSecond === undefined ? 0 : freeAt + delay)
      if (leavesAt <= now) send()
      else setTimeout(send, leavesAt - now)
    }
    far.on("data", (chunk: Buffer) => {
      bytes += chunk.length
      const size = behaviour.bytesPerSecond === undefined ? chunk.length : piece
      for (let at = 0; at < chunk.length; at += size) {
        const part = chunk.subarray(at, at + size)
        later(() => near.destroyed || near.write(part), part.length)
      }
    })
    far.on("end", () => later(() => near.end(), 0))
    far.on("close", () => later(() => near.destroy(), 0))
    near.on("close", () => far.destroy())
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const cut = () => {
    const open = sockets.size / 2
    for (const socket of sockets) socket.resetAndDestroy()
    return open
  }
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    set: (next) => {
      behaviour = next
    },
    cut,
    seen: () => ({ connections, bytes }),
    [Symbol.asyncDispose]: async () => {
      const closed = once(server, "close")
      server.close()
      cut()
      await closed
    }
  }
}
