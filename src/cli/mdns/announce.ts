/** Announces a gateway in the local network by multicast DNS: answers queries, and sends a goodbye at the end. */
import { hostname, networkInterfaces } from "node:os"
import * as Effect from "effect/Effect"
import type { Answer, MulticastDns, Packet, Question, Sender } from "multicast-dns"
import { version } from "../../internal/version.js"
import * as Socket from "./socket.js"

/** The name of the service. */
export const service = "_aicortex._tcp.local"

/** Asked for by who wants to know which services there are. */
const directory = "_services._dns-sd._udp.local"

/** How long others may believe what does not change (names) and what may (addresses), in seconds. */
const nameTtl = 4_500
const addressTtl = 120

/** The pause before it is announced a second time, in milliseconds: a packet may be lost. */
const again = 1_000

/** A label of DNS has 63 bytes at most. */
const labelOf = (text: string): string => {
  let label = text.replaceAll(".", "-").trim()
  while (new TextEncoder().encode(label).length > 63) label = label.slice(0, -1)
  return label
}

/** What is announced. */
export interface Announcement {
  readonly name: string
  readonly port: number
  /** The address that it listens on; a wildcard means all. */
  readonly host: string
}

/** Whether an address is reached by this machine alone. */
export const isLoopback = (host: string): boolean => /^(127\.|::1$|\[::1\]$|localhost$)/i.test(host)

const addresses = (host: string): ReadonlyArray<readonly [type: "A" | "AAAA", address: string]> => {
  if (host !== "0.0.0.0" && host !== "::" && /^[\d.]+$/.test(host)) return [["A", host]]
  return Object.values(networkInterfaces())
    .flatMap((all) => all ?? [])
    .filter(({ address, internal }) => !internal && !address.startsWith("fe80"))
    .map(({ address, family }) => [family === "IPv4" ? "A" : "AAAA", address] as const)
}

const recordsOf = ({ host, name, port }: Announcement, ttl: number | undefined) => {
  const instance = `${labelOf(name)}.${service}`
  const target = `${labelOf(hostname().split(".")[0] || "aicortex")}.local`
  const names = ttl ?? nameTtl
  const places = ttl ?? addressTtl
  const pointer: Answer = { name: service, type: "PTR", ttl: names, data: instance }
  const listed: Answer = { name: directory, type: "PTR", ttl: names, data: service }
  const text = [`version=${version}`, "path=/", "protocol=openai"]
  const others: ReadonlyArray<Answer> = [
    { name: instance, type: "SRV", ttl: places, flush: true, data: { priority: 0, weight: 0, port, target } },
    { name: instance, type: "TXT", ttl: names, flush: true, data: text },
    ...addresses(host).map(([type, data]): Answer => ({ name: target, type, ttl: places, flush: true, data }))
  ]
  return { pointer, listed, others }
}

/** The answers to a question. */
const answersTo = ({ name, type }: Question, records: ReturnType<typeof recordsOf>): ReadonlyArray<Answer> =>
  [records.pointer, records.listed, ...records.others].filter(
    (record) => record.name.toLowerCase() === name.toLowerCase() && (type === record.type || type === "ANY")
  )

const send = (socket: MulticastDns, packet: Packet): Effect.Effect<void> =>
  Effect.async<void>((resume) => socket.respond(packet, null, () => resume(Effect.void)))

/** Announces it until the scope closes. */
export const announce = Effect.fnUntraced(function* (announcement: Announcement, options: Socket.SocketOptions = {}) {
  const goodbye = (socket: MulticastDns) =>
    Effect.suspend(() => send(socket, { answers: [recordsOf(announcement, 0).pointer] }))
  const socket = yield* Socket.open(options, goodbye)
  const whole = Effect.suspend(() => {
    const { others, pointer } = recordsOf(announcement, undefined)
    return send(socket, { answers: [pointer, ...others] })
  })
  socket.on("query", ({ questions = [] }: Packet, sender: Sender) => {
    const records = recordsOf(announcement, undefined)
    const answers = questions.flatMap((question) => answersTo(question, records))
    if (answers.length === 0) return
    const additionals = records.others.filter((record) => !answers.includes(record))
    socket.respond({ answers, additionals })
    // A query from another port needs a unicast answer.
    if (sender.port !== (options.port ?? 5353)) socket.respond({ answers, additionals }, sender)
  })
  yield* whole
  yield* Effect.forkScoped(Effect.delay(whole, again))
})
