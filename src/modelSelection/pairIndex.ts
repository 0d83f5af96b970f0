/** All models on all servers, with what does not depend on the request: made once for each list of offers. */
import { canonical, generation, type ModelInfo } from "../Model.js"
import type { Offer } from "../Registry.js"
import { type Host, isLocal, type Protocol, type Server } from "../Server.js"
import { memoryFor } from "./memory.js"
import { type Capabilities, capabilitiesOf, sizeOf } from "./suitable.js"

export interface ServerEntry {
  readonly server: Server
  readonly local: boolean
}

/** A pair is a model on a server; the columns have one entry for each. */
export class PairIndex {
  readonly hosts: ReadonlyArray<Host>
  /** The index of the pair's model, server and protocol. */
  readonly model: Int32Array
  readonly server: Int32Array
  readonly protocol: Uint8Array
  /** Memory in bytes that the server needs to load the model; 0 where that does not matter, or is not known. */
  readonly memory: Float64Array
  /** In tokens; Infinity where it is not known. */
  readonly context: Float64Array
  readonly servers: ReadonlyArray<ServerEntry>
  readonly protocols: ReadonlyArray<Protocol>
  /** The place of each server by its priority: equal ones share one. */
  readonly priority: Float64Array
  readonly priorities: number
  readonly models: ReadonlyArray<ModelInfo>
  readonly abilities: ReadonlyArray<Capabilities>
  /** The pairs of model `m` are those from `start[m]` up to, but not including, `start[m + 1]`. */
  readonly start: Int32Array
  /** Whether every model is on exactly one server. */
  readonly isSingle: boolean
  /** The name of each model in canonical form. */
  readonly keys: ReadonlyArray<string>
  /** The index of each model by that name. */
  readonly byKey: ReadonlyMap<string, number>
  /** What each model can do, as an index of `kinds`. */
  readonly kind: Uint8Array
  /** The different abilities that there are. */
  readonly kinds: ReadonlyArray<Capabilities>
  /** The models by `rank`. */
  readonly byRank: Int32Array
  /** The least of `context`, and the most of `memory`. */
  readonly leastContext: number
  readonly mostMemory: number
  /** The place of each model by its capability: the larger one first, then the newer generation, then by name. */
  readonly rank: Float64Array

  constructor(readonly offers: ReadonlyArray<Offer>) {
    const hosts = offers.flatMap((offer) => offer.hosts)
    const size = hosts.length
    this.hosts = hosts
    this.model = new Int32Array(size)
    this.server = new Int32Array(size)
    this.protocol = new Uint8Array(size)
    this.memory = new Float64Array(size)
    this.context = new Float64Array(size).fill(Number.POSITIVE_INFINITY)
    const servers: Array<ServerEntry> = []
    const serverOf = new Map<string, number>()
    const protocols: Array<Protocol> = []
    this.start = new Int32Array(offers.length + 1)
    let at = 0
    offers.forEach(({ contexts, hosts, info }, model) => {
      hosts.forEach((host, i) => {
        const { protocol, server } = host
        let known = serverOf.get(server.url)
        if (known === undefined) {
          known = servers.push({ server, local: isLocal(server) }) - 1
          serverOf.set(server.url, known)
        }
        if (!protocols.includes(protocol)) protocols.push(protocol)
        this.model[at] = model
        this.server[at] = known
        this.protocol[at] = protocols.indexOf(protocol)
        this.memory[at] = memoryFor(info, host)
        this.context[at] = contexts[i] ?? info.context_length ?? Number.POSITIVE_INFINITY
        at++
      })
      this.start[model + 1] = at
    })
    this.isSingle = offers.every((offer) => offer.hosts.length === 1)
    this.servers = servers
    this.protocols = protocols
    const priorities = [...new Set(servers.map(({ server }) => server.priority))].sort((a, b) => a - b)
    this.priorities = priorities.length
    this.priority = Float64Array.from(servers, ({ server }) => priorities.indexOf(server.priority))
    this.models = offers.map(({ info }) => info)
    this.abilities = this.models.map(capabilitiesOf)
    const kinds: Array<Capabilities> = []
    const kindOf = new Map<string, number>()
    this.kind = Uint8Array.from(this.abilities, (ability) => {
      const { completes, insert, tools, vision } = ability
      const key = `${completes} ${tools} ${vision} ${insert}`
      let known = kindOf.get(key)
      if (known === undefined) {
        known = kinds.push(ability) - 1
        kindOf.set(key, known)
      }
      return known
    })
    this.kinds = kinds
    this.leastContext = this.context.reduce((least, length) => Math.min(least, length), Number.POSITIVE_INFINITY)
    this.mostMemory = this.memory.reduce((most, bytes) => Math.max(most, bytes), 0)
    this.keys = offers.map(({ model }) => canonical(model))
    this.byKey = new Map(this.keys.map((key, model) => [key, model]))
    this.rank = new Float64Array(offers.length)
    const facts = offers.map(({ info, model }) => ({ size: sizeOf(info), age: generation(model) ?? 0, model }))
    const byCapability = facts.map((_, model) => model)
    byCapability.sort((x, y) => {
      const a = facts[x]
      const b = facts[y]
      if (a === undefined || b === undefined) return 0
      return b.size - a.size || b.age - a.age || (a.model < b.model ? -1 : 1)
    })
    this.byRank = Int32Array.from(byCapability)
    byCapability.forEach((model, place) => {
      this.rank[model] = place
    })
  }
}
