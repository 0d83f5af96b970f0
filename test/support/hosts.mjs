/**
 * Loaded with `--import` before a program that names servers which do not exist: `TEST_HOSTS` says on which port of
 * this machine each of them listens. Besides, a program reaches what it serves itself. Nothing else can be reached, also
 * not the Ollama of whoever runs the tests.
 */
import { syncBuiltinESMExports } from "node:module"
import net from "node:net"
import tls from "node:tls"

/** @type {{ readonly [host: string]: number }} */
const ports = JSON.parse(process.env.TEST_HOSTS ?? "{}")
const { connect } = net

/** The ports on which this process listens. @type {Set<number>} */
const own = new Set()
const { listen } = net.Server.prototype
net.Server.prototype.listen = function (/** @type {any[]} */ ...args) {
  this.once("listening", () => {
    const address = this.address()
    if (typeof address === "object" && address !== null) own.add(address.port)
  })
  return Reflect.apply(listen, this, args)
}

/** @type {(options: net.TcpNetConnectOpts) => net.Socket} */
const open = ({ host, port, ...options }) => {
  const mapped = ports[`${host}:${port}`]
  if (mapped !== undefined) return connect({ ...options, host: "127.0.0.1", port: mapped })
  const isLocal = /^(127\.|localhost$|::1$)/.test(host ?? "localhost")
  if (isLocal && own.has(Number(port))) return connect({ ...options, host: host ?? "localhost", port: Number(port) })
  const code = isLocal ? "ECONNREFUSED" : "ENOTFOUND"
  const socket = new net.Socket()
  process.nextTick(() => socket.destroy(Object.assign(new Error(`${code} ${host}:${port}`), { code })))
  return socket
}

/** The fakes do not encrypt: to undici the connection is as good as an encrypted one. */
/** @type {(options: tls.ConnectionOptions) => net.Socket} */
const openSecurely = ({ host, port }) => {
  const socket = open({ host, port: Number(port) })
  socket.once("connect", () => socket.emit("secureConnect"))
  return Object.assign(socket, { alpnProtocol: false })
}

// undici, also the one in Node, looks them up at each connection.
Object.assign(net, { connect: open })
Object.assign(tls, { connect: openSecurely })
syncBuiltinESMExports()
