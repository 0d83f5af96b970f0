/** Every attack, one after the other, each with a key of its own so that it begins with all that a key may use. */
import type { Socket } from "node:net"
import { setTimeout as sleep } from "node:timers/promises"
import { long, short } from "../schemas/cases.js"
import { Attack, type Damage, http } from "./connections.js"
import { echo, model } from "./servers.js"

/**
 * Whether the attacker has a key: with the limits that the README recommends, without limits, or none that is valid.
 */
export type Right = "limited" | "unlimited" | "none"

export interface Plan {
  readonly group: string
  readonly name: string
  readonly right: Right
  /** Prepares everything first, so that the attack itself costs the machine as little as it can. */
  readonly begin: (key: string) => (attack: Attack) => ReadonlyArray<Promise<void>>
}

/** As many as a body may have by default, and a little less. */
const bodyBytes = 31 * 1024 * 1024

const chat = (fields: object): string =>
  JSON.stringify({ model, max_tokens: 8, messages: [{ role: "user", content: "Hi" }], ...fields })
const said = (content: string) => ({ messages: [{ role: "user", content }] })
const completions = "/v1/chat/completions"

const rotation = <A>(all: ReadonlyArray<A>): (() => A) => {
  let at = 0
  return () => all[at++ % all.length] as A
}

/** Clients that ask for the same few things again and again. */
const asking =
  (clients: number, requests: (key: string) => ReadonlyArray<Buffer>): Plan["begin"] =>
  (key) => {
    const all = requests(key)
    return (attack) => attack.ask(clients, rotation(all))
  }

const withSchema = (key: string, schema: string, reply: string): Buffer => {
  const body = chat(said(`${echo}${reply}`)).slice(0, -1)
  const format = `"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":${schema}}}`
  return http(key, completions, `${body},${format}}`)
}
const schemas = (key: string, which: (name: string) => boolean): ReadonlyArray<Buffer> =>
  short
    .map((one) => one())
    .filter(({ name }) => which(name))
    .map(({ reply, schema }) => withSchema(key, schema, reply))
const isPattern = (name: string): boolean => name.includes("pattern")

/** Sends the beginning of a request, and then nothing or next to nothing. */
const half =
  (count: number, begin: (key: string) => Buffer, drip: number): Plan["begin"] =>
  (key) => {
    const start = begin(key)
    return (attack) =>
      attack.hold(count, async (socket) => {
        await attack.send(socket, start)
        if (drip === 0) return
        void (async () => {
          while (!socket.destroyed && !attack.isOver) {
            await sleep(drip)
            socket.write("a")
          }
        })()
      })
  }

/** Asks for much, again and again, and reads nothing. */
const deaf =
  (count: number, requests: (key: string) => ReadonlyArray<Buffer>): Plan["begin"] =>
  (key) => {
    const all = requests(key)
    return (attack) =>
      attack.hold(count, async (socket: Socket, at) => {
        socket.pause()
        await attack.send(socket, all[at % all.length] as Buffer)
      })
  }

/** Sends many requests in one piece, without waiting for the answers, and the next piece as soon as the gateway reads it. */
const pipelined =
  (count: number, request: (key: string) => Buffer): Plan["begin"] =>
  (key) => {
    const one = request(key)
    const many = Buffer.concat(Array.from({ length: Math.floor(65_536 / one.length) }, () => one))
    return (attack) =>
      attack.hold(count, async (socket) => {
        socket.on("data", (part) => {
          const answers = part.toString("latin1").match(/HTTP\/1\.1 \d{3}/g) ?? []
          for (const answer of answers) {
            const status = answer.slice(9)
            attack.damage.statuses[status] = (attack.damage.statuses[status] ?? 0) + 1
          }
        })
        while (!socket.destroyed && !attack.isOver) await attack.send(socket, many)
      })
  }

const list = (key: string): Buffer => http(key, "/v1/models")
const times = <A>(n: number, one: (at: number) => A): ReadonlyArray<A> => Array.from({ length: n }, (_, at) => one(at))

export const plans: ReadonlyArray<Plan> = [
  {
    group: "schemas",
    name: "catastrophic patterns",
    right: "limited",
    begin: asking(16, (key) => schemas(key, isPattern))
  },
  {
    group: "schemas",
    name: "50,000 properties, enums of 500,000, …",
    right: "limited",
    begin: asking(16, (key) => schemas(key, (name) => !isPattern(name)))
  },
  {
    group: "schemas",
    name: "schemas of 30 MB",
    right: "limited",
    begin: asking(16, (key) => long.map((one) => one()).map(({ reply, schema }) => withSchema(key, schema, reply)))
  },
  {
    group: "floods",
    name: "chats of a limited key",
    right: "limited",
    begin: asking(64, (key) => [http(key, completions, chat({}))])
  },
  {
    group: "floods",
    name: "chats of a key without limits",
    right: "unlimited",
    begin: asking(256, (key) => [http(key, completions, chat({ stream: true, max_tokens: 24 }))])
  },
  {
    group: "floods",
    name: "wrong keys",
    right: "none",
    begin: asking(64, (key) => [http(key, completions, chat({})), list(key)])
  },
  {
    group: "floods",
    name: "wrong keys, pipelined",
    right: "none",
    begin: pipelined(64, list)
  },
  {
    group: "floods",
    name: "chats of a limited key, pipelined",
    right: "limited",
    begin: pipelined(64, (key) => http(key, completions, chat({})))
  },
  {
    group: "floods",
    name: "wrong keys with bodies of 31 MB",
    right: "none",
    begin: asking(16, (key) => [http(key, completions, Buffer.alloc(bodyBytes, "a"))])
  },
  {
    group: "connections",
    name: "half-sent bodies of 31 MB",
    right: "limited",
    begin: half(300, (key) => http(key, completions, Buffer.alloc(bodyBytes, "a")).subarray(0, bodyBytes / 2), 500)
  },
  {
    group: "connections",
    name: "half-sent headers",
    right: "none",
    begin: half(3_000, () => Buffer.from("GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx-slow: a"), 2_000)
  },
  {
    group: "connections",
    name: "5,000 idle connections",
    right: "none",
    begin: half(5_000, () => Buffer.alloc(0), 0)
  },
  {
    group: "connections",
    name: "answers that are never read",
    right: "limited",
    begin: deaf(200, (key) => [
      http(key, completions, chat({ ...said(`${echo}${"a".repeat(200_000)}`), stream: true })),
      Buffer.concat(times(300, () => list(key))),
      Buffer.concat(times(100, () => http(key, "/openapi.json"))),
      http(key, completions, chat({ stream: true }))
    ])
  },
  {
    group: "sessions",
    name: "new sessions of a limited key",
    right: "limited",
    begin: asking(16, (key) => [http(key, "/v1/sessions", "", { method: "POST" })])
  },
  {
    group: "sessions",
    name: "new sessions of a key without limits",
    right: "unlimited",
    begin: asking(32, (key) => [http(key, "/v1/sessions", "", { method: "POST" })])
  },
  {
    group: "answers",
    name: "n: 128, and as many as the key may have",
    right: "limited",
    begin: asking(16, (key) => [128, 16, 4].map((n) => http(key, completions, chat({ n, max_tokens: 24 }))))
  },
  {
    group: "answers",
    name: "prompts of 100,000 tokens",
    right: "limited",
    begin: asking(16, (key) => [http(key, completions, chat({ ...said("word ".repeat(80_000)), stream: true }))])
  },
  {
    group: "lists",
    name: "of a limited key",
    right: "limited",
    begin: asking(32, (key) => lists(key))
  },
  {
    group: "lists",
    name: "of a key without limits",
    right: "unlimited",
    begin: asking(32, (key) => lists(key))
  },
  {
    group: "bodies",
    name: "31 MB of text",
    right: "limited",
    begin: asking(16, (key) => [
      http(key, completions, chat(said("word ".repeat(bodyBytes / 5 - 100)))),
      http(key, completions, chat(said("\\u00e9".repeat(bodyBytes / 7 - 100)))),
      http(key, completions, chat({ messages: "a".repeat(bodyBytes - 200) })),
      http(key, "/api/chat", chat({ ...said("\n".repeat(bodyBytes / 2 - 100)), odd: 1 }))
    ])
  },
  {
    group: "bodies",
    name: "31 MB of JSON values, and of none",
    right: "limited",
    begin: asking(16, (key) => [
      http(key, completions, `{"a":${"[".repeat(bodyBytes - 100)}`),
      http(key, completions, `[${"1,".repeat(bodyBytes / 2 - 100)}1]`),
      http(key, completions, `{"messages":"${'\\"'.repeat(bodyBytes / 2 - 100)}"}`),
      http(key, completions, `{${times(1_000_000, (at) => `"key${at}":{"a":[]}`).join(",")}}`),
      http(key, completions, Buffer.alloc(bodyBytes, '"a'))
    ])
  },
  {
    group: "bodies",
    name: "480,000 JSON values, just within the bound",
    right: "limited",
    begin: asking(16, (key) => [
      http(key, completions, chat({ metadata: times(480_000, () => 1) })),
      http(key, completions, chat({ messages: times(20_000, () => ({ role: "user", content: "a" })) })),
      http(key, "/v1/embeddings", JSON.stringify({ model, input: times(400_000, (at) => at % 100) }))
    ])
  }
]

function lists(key: string): ReadonlyArray<Buffer> {
  return [
    list(key),
    http(key, "/api/tags"),
    http(key, "/api/ps"),
    http(key, "/api/show", JSON.stringify({ model })),
    http(key, "/metrics"),
    http(key, "/v1/sessions"),
    http(key, "/v1/messages/count_tokens", chat(said("word ".repeat(10_000)))),
    http(key, "/openapi.json"),
    http(key, "/ready")
  ]
}

/** What the parent process asks for: the attack at this place is prepared, and then done for so long. */
export type Order =
  | { readonly is: "prepare"; readonly at: number; readonly port: number; readonly key: string }
  | { readonly is: "attack"; readonly seconds: number }

export type Report = { readonly is: "prepared" } | { readonly is: "done"; readonly damage: Damage }

export const run = (): void => {
  const tell = (report: Report) => process.send?.(report)
  let port = 0
  let attack: ReturnType<Plan["begin"]> | undefined
  process.on("disconnect", () => process.exit())
  process.on("message", async (order: Order) => {
    if (order.is === "prepare") {
      port = order.port
      attack = (plans[order.at] as Plan).begin(order.key)
      tell({ is: "prepared" })
      return
    }
    const under = new Attack(port, performance.now() + order.seconds * 1_000)
    const damage = await under.last(attack?.(under) ?? [])
    attack = undefined
    tell({ is: "done", damage })
  })
}
