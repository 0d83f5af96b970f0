import { createSocket } from "node:dgram"
import { once } from "node:events"
import { type AddressInfo, createServer, type Socket } from "node:net"

/** Whether every address leads to this machine, so that the listeners here see whatever is sent anywhere. */
export const isolated = process.env["AICORTEX_TEST_ISOLATED"] === "1"

/** Who was asked besides the gateway. */
export interface Outside extends AsyncDisposable {
  readonly seen: ReadonlyArray<string>
  /** What a program is to be told so that its traffic comes here. */
  readonly env: Readonly<Record<string, string>>
}

const printable = (bytes: Buffer): string =>
  bytes
    .toString("latin1")
    .replace(/[^\x20-\x7e]+/g, " ")
    .trim()
    .slice(0, 200)

const isLoopback = (address: string | undefined) =>
  address === undefined || address === "::1" || /^(::ffff:)?127\./.test(address)

/**
 * Listens for what is meant for others: where we are alone, at the ports of names and of the web, whatever the address;
 * else as the proxy that a program is told to use.
 */
export const listenOutside = async (): Promise<Outside> => {
  const seen: Array<string> = []
  const closes: Array<() => void> = []
  const sockets = new Set<Socket>()
  const listen = async (port: number, what: string, host: string): Promise<number> => {
    const server = createServer((socket) => {
      sockets.add(socket)
      socket.on("error", () => {})
      socket.once("data", (bytes: Buffer) => {
        seen.push(`${what} ${isLoopback(socket.localAddress) ? "" : socket.localAddress}: ${printable(bytes)}`)
        socket.destroy()
      })
    })
    server.listen(port, host)
    await once(server, "listening")
    closes.push(() => server.close())
    return (server.address() as AddressInfo).port
  }
  let env: Record<string, string> = {}
  if (isolated) {
    for (const port of [53, 80, 443]) await listen(port, `port ${port}`, "0.0.0.0")
    const names = createSocket("udp4")
    names.on("message", (question, { address, port }) => {
      seen.push(`name: ${printable(question.subarray(12))}`)
      const answer = Buffer.from(question)
      // An answer, and: no such name.
      answer[2] = (answer[2] ?? 0) | 0x80
      answer[3] = ((answer[3] ?? 0) & 0xf0) | 3
      names.send(answer, port, address)
    })
    names.bind(53, "0.0.0.0")
    await once(names, "listening")
    closes.push(() => names.close())
  } else {
    const proxy = `http://127.0.0.1:${await listen(0, "proxy", "127.0.0.1")}`
    const here = "127.0.0.1,localhost"
    env = { HTTP_PROXY: proxy, HTTPS_PROXY: proxy, ALL_PROXY: proxy, NO_PROXY: here }
    env = Object.fromEntries(Object.entries(env).flatMap(([k, v]) => [[k, v] as const, [k.toLowerCase(), v] as const]))
  }
  const close = async () => {
    for (const socket of sockets) socket.destroy()
    for (const one of closes) one()
  }
  return { seen, env, [Symbol.asyncDispose]: close }
}
