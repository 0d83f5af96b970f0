import { connect, type Socket } from "node:net"
import { Worker } from "node:worker_threads"

/** An address of loopback that neither accepts nor refuses a connection. */
export interface BlackHole extends AsyncDisposable {
  readonly url: string
}

const listener = `
const { parentPort, workerData } = require("node:worker_threads")
const server = require("node:net").createServer()
server.listen({ port: workerData, host: "127.0.0.1", backlog: 1 }, () => {
  parentPort.postMessage(server.address().port)
  // Nothing is accepted any more: the queue of the system fills, and then it drops what comes.
  setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0))
})
`

/** Listens in a thread that sleeps, and fills its queue until a connection hangs. */
export async function startBlackHole(port = 0): Promise<BlackHole> {
  const worker = new Worker(listener, { eval: true, workerData: port })
  const actual = await new Promise<number>((resolve, reject) => {
    worker.once("message", resolve)
    worker.once("error", reject)
  })
  const sockets: Array<Socket> = []
  const hangs = () =>
    new Promise<boolean>((resolve) => {
      const socket = connect(actual, "127.0.0.1")
      sockets.push(socket)
      socket.on("error", () => resolve(false))
      const timer = setTimeout(() => resolve(true), 150)
      socket.on("connect", () => {
        clearTimeout(timer)
        resolve(false)
      })
    })
  for (let tries = 0; !(await hangs()); tries++) {
    if (tries > 64) throw new Error("the queue of the system does not fill")
  }
  return {
    url: `http://127.0.0.1:${actual}`,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      await worker.terminate()
    }
  }
}
