/** Finds servers in the local network by multicast DNS. It only asks all and listens: it connects to none of them. */
import * as Effect from "effect/Effect"
import type { Answer, MulticastDns, Packet, Sender } from "multicast-dns"
import * as Socket from "./socket.js"

/** The services that are looked for, with what their servers are. */
const services = { "_aicortex._tcp.local": "aicortex", "_ollama._tcp.local": "ollama" } as const

/** A server that was found. All of it is what others say of themselves. */
export interface FoundService {
  readonly kind: "aicortex" | "ollama"
  /** The name that it gives itself. */
  readonly name: string
  readonly url: string
  readonly version: string | undefined
}

/** More than this are noise, or an attack. */
const maxInstances = 256

/** When it is asked again, in milliseconds: a packet may be lost. */
const again = 1_000

interface ServiceTarget {
  readonly target: string
  readonly port: number
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const controls = /[\u0000-\u001f\u007f-\u009f]/g

const isPlace = (data: unknown): data is ServiceTarget =>
  typeof data === "object" &&
  data !== null &&
  "target" in data &&
  typeof data.target === "string" &&
  "port" in data &&
  typeof data.port === "number" &&
  data.port > 0

/** The entries of a TXT record: `name=value`. */
const textOf = (data: unknown): ReadonlyMap<string, string> => {
  const entries = new Map<string, string>()
  for (const one of Array.isArray(data) ? data : [data]) {
    const text = typeof one === "string" ? one : one instanceof Uint8Array ? new TextDecoder().decode(one) : ""
    const equals = text.indexOf("=")
    if (equals > 0) entries.set(text.slice(0, equals).toLowerCase(), text.slice(equals + 1).replace(controls, ""))
  }
  return entries
}

/** The answers received so far. */
class ServiceRecords {
  private readonly instances = new Map<string, { readonly kind: FoundService["kind"]; readonly name: string }>()
  private readonly places = new Map<string, ServiceTarget>()
  private readonly texts = new Map<string, ReadonlyMap<string, string>>()
  private readonly addresses = new Map<string, Set<string>>()

  add({ data, name, ttl, type }: Answer, from: string): void {
    const key = name.toLowerCase()
    if (type === "PTR" && typeof data === "string" && key in services) {
      const instance = data.toLowerCase()
      if (ttl === 0) this.instances.delete(instance)
      else if (this.instances.size < maxInstances) {
        const label = data.slice(0, Math.max(0, data.length - name.length - 1)).replace(controls, "")
        this.instances.set(instance, { kind: services[key as keyof typeof services], name: label })
      }
    } else if (type === "SRV" && isPlace(data) && this.places.size < 4 * maxInstances) this.places.set(key, data)
    else if (type === "TXT" && this.texts.size < 4 * maxInstances) this.texts.set(key, textOf(data))
    else if ((type === "A" || type === "AAAA") && typeof data === "string" && this.addresses.size < 4 * maxInstances) {
      const known = this.addresses.get(key) ?? new Set()
      // The address that it answered from is one that it is reached at.
      this.addresses.set(key, data === from ? new Set([data, ...known]) : known.add(data))
    }
  }

  /** Questions for what is still missing. */
  missing(): Packet {
    const questions = [...this.instances.keys()].flatMap((instance) => {
      const place = this.places.get(instance)
      if (place === undefined)
        return [
          { name: instance, type: "SRV" },
          { name: instance, type: "TXT" }
        ]
      return this.addresses.has(place.target.toLowerCase()) ? [] : [{ name: place.target, type: "A" }]
    })
    return { questions }
  }

  found(): ReadonlyArray<FoundService> {
    const all = new Map<string, FoundService>()
    for (const [instance, { kind, name }] of this.instances) {
      const place = this.places.get(instance)
      const addresses = [...(this.addresses.get(place?.target.toLowerCase() ?? "") ?? [])]
      const address = addresses.find((one) => !one.includes(":")) ?? addresses.find((one) => !/^fe80/i.test(one))
      if (place === undefined || address === undefined) continue
      const text = this.texts.get(instance)
      const path = text?.get("path") ?? ""
      const url = `http://${address.includes(":") ? `[${address}]` : address}:${place.port}${/^\/[\w./-]*[\w]$/.test(path) ? path : ""}`
      const before = all.get(url)
      if (before?.kind !== "aicortex") all.set(url, { kind, name, url, version: text?.get("version") })
    }
    return [...all.values()].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.url < b.url ? -1 : 1))
  }
}

const ask = (socket: MulticastDns, packet: Packet) =>
  Effect.sync(() => {
    if ((packet.questions?.length ?? 0) > 0) socket.query(packet)
  })

/** All that announce themselves within this time, in milliseconds. */
export const browse = (timeout: number, options: Socket.SocketOptions = {}) =>
  Effect.scoped(
    Effect.gen(function* () {
      const heard = new ServiceRecords()
      const socket = yield* Socket.open(options)
      socket.on("response", ({ additionals = [], answers = [] }: Packet, { address }: Sender) => {
        const before = heard.missing().questions?.length ?? 0
        for (const record of [...answers, ...additionals]) heard.add(record, address)
        const missing = heard.missing()
        if ((missing.questions?.length ?? 0) > before) socket.query(missing)
      })
      const all: Packet = { questions: Object.keys(services).map((name) => ({ name, type: "PTR" })) }
      const asking = Effect.forever(
        Effect.zipRight(
          ask(socket, all),
          Effect.delay(
            Effect.suspend(() => ask(socket, heard.missing())),
            again
          )
        )
      )
      yield* Effect.timeoutOption(asking, timeout)
      return heard.found()
    })
  )
