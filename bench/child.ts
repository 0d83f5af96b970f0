/** The process that a run starts: the fake servers (`servers`), or a worker that measures one variant. */
import * as Net from "node:net"
import { type Addresses, expected, type Scenario, start, tokensPerStream } from "./servers.js"
import { type Name, variants } from "./variants/index.js"
import { type Client, NotBuilt } from "./variants/variant.js"

/** Do it once and tell the text, or do it for a while and tell the cost. */
export type Task =
  | { readonly type: "check"; readonly scenario: Scenario }
  | { readonly type: "batch"; readonly scenario: Scenario; readonly concurrency: number; readonly milliseconds: number }

/** Times are in milliseconds; `units` are calls or tokens; `reads` are reads of the network. */
export type Reply =
  | { readonly type: "ready" }
  | { readonly type: "addresses"; readonly addresses: Addresses }
  | { readonly type: "checked"; readonly text: string }
  | {
      readonly type: "measured"
      readonly wall: number
      readonly cpu: number
      readonly units: number
      readonly reads: number
    }
  | { readonly type: "not built" }
  | { readonly type: "failed"; readonly message: string }

const send = (reply: Reply) => process.send?.(reply)

/** Counts what sockets hand to their readers, whoever reads. */
let reads = 0
const countReads = () => {
  const push = Net.Socket.prototype.push
  Net.Socket.prototype.push = function (this: Net.Socket, chunk: unknown, encoding?: BufferEncoding) {
    reads++
    return push.call(this, chunk, encoding)
  }
}

const batch = async (client: Client, ask: Task & { readonly type: "batch" }): Promise<Reply> => {
  const { call, stream } = client
  const once = ask.scenario === "call" ? call : stream
  const text = expected[ask.scenario]
  let count = 0
  const readsBefore = reads
  const cpuBefore = process.cpuUsage()
  const began = performance.now()
  const deadline = began + ask.milliseconds
  const loop = async () => {
    do {
      if ((await once()) !== text) throw new Error(`A different text came back from ${ask.scenario}.`)
      count++
    } while (performance.now() < deadline)
  }
  await Promise.all(Array.from({ length: ask.concurrency }, loop))
  const wall = performance.now() - began
  const { user, system } = process.cpuUsage(cpuBefore)
  return {
    type: "measured",
    wall,
    cpu: (user + system) / 1000,
    units: ask.scenario === "call" ? count : count * tokensPerStream,
    reads: reads - readsBefore
  }
}

const work = async (name: Name, addresses: Addresses) => {
  countReads()
  const variant = variants[name]
  const open = await variant.load()
  const clients = new Map<Scenario, Promise<Client>>()
  const clientOf = (scenario: Scenario) => {
    const client = clients.get(scenario) ?? open(addresses[variant.protocol][scenario])
    clients.set(scenario, client)
    return client
  }
  const handle = async (ask: Task): Promise<Reply> => {
    const client = await clientOf(ask.scenario)
    if (ask.type === "batch") return batch(client, ask)
    const { call, stream } = client
    const once = ask.scenario === "call" ? call : stream
    return { type: "checked", text: await once() }
  }
  process.on("message", (ask: Task) => {
    handle(ask)
      .catch((error: unknown): Reply => {
        if (error instanceof NotBuilt) return { type: "not built" }
        return { type: "failed", message: error instanceof Error ? `${error.name}: ${error.message}` : String(error) }
      })
      .then(send)
  })
  send({ type: "ready" })
}

process.on("disconnect", () => process.exit(0))
const [role, argument] = process.argv.slice(2)
if (role === "servers") {
  start(Number(argument)).then((addresses) => send({ type: "addresses", addresses }))
} else {
  await work(role as Name, JSON.parse(argument ?? "") as Addresses)
}
