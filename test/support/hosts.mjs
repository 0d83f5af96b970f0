/**
 * Loaded with `--import` before a program that names servers which do not exist: `TEST_HOSTS` says on which port of
 * this machine each of them listens. Nothing else can be reached, also not the Ollama of whoever runs the tests.
 */
import { syncBuiltinESMExports } from "node:module"
import net from "node:net"
import tls from "node:tls"

/** @type {{ readonly [host: string]: number }} */
const ports = JSON.parse(process.env.TEST_HOSTS ?? "{}")
const { connect } = net

/** @type {(options: net.TcpNetConnectOpts) => net.Socket} */
const open = ({ host, port, ...options }) => {
  const mapped = ports[`${host}:${port}`]
  if (mapped !== undefined) return connect({ ...options, host: "127.0.0.1", port: mapped })
  const code = /^(127\.|localhost$|::1$)/.test(host ?? "localhost") ? "ECONNREFUSED" : "ENOTFOUND"
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
