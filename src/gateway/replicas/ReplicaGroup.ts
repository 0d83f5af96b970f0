/**
 * The gateways that use one store at the same time, or the workers of one: each tells the others what it has in flight,
 * which servers rest, how fast they are and what they have loaded. A change is sent at once, further ones in batches;
 * each second all that is in flight is sent again, and a replica that is silent for some seconds no longer counts.
 *
 * Requests touch plain numbers only (`fleet/replicas`): the cost of what is sent and received does not depend on their
 * number.
 */
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { RemoteTokenCounter } from "../../Fleet.js"
import type { SavedRemoteTokens } from "../../fleet/remoteTokens.js"
import type { ReplicaLink, ReplicatedFleet, ServerReport } from "../../fleet/replicas.js"
import type * as Store from "../../Store.js"
import { maxMessage } from "../../store/channel.js"
import { inTime } from "../storeTimeout.js"

/** The shortest time between two batches, and before one that is urgent, in milliseconds. */
const batchInterval = 50
const urgentInterval = 2

/**
 * The interval of heartbeats with all that is in flight, and the silence after which a gateway counts as gone; in
 * milliseconds.
 */
const heartbeat = 1_000
const peerLife = 5_000

/** How long a gateway may not receive its own messages before it subscribes again, in milliseconds. */
const maxDeafness = 3_500

/** What gateways send each other. */
interface Message {
  readonly from: string
  /** `whole`: all that is in flight there, `change`: some of it, `end`: it stops. */
  readonly kind: "whole" | "change" | "end"
  readonly servers: ReadonlyArray<ServerReport>
  /** It wants to know all that is known. */
  readonly asks?: true | undefined
  readonly remoteTokens?: SavedRemoteTokens | undefined
}

const parsed = (text: string): Message | undefined => {
  try {
    const message: unknown = JSON.parse(text)
    return typeof message === "object" && message !== null && "from" in message && "servers" in message
      ? (message as Message)
      : undefined
  } catch {
    return undefined
  }
}

/** The last message of the one that sent this message, for where it cannot send it any more. */
export const endOf = (text: string): string =>
  JSON.stringify({ from: parsed(text)?.from ?? "", kind: "end", servers: [] } satisfies Message)

export class ReplicaGroup implements ReplicaLink {
  private readonly id = randomUUID()
  private fleets: Array<ReplicatedFleet> = []
  /** When each of the others last sent a message. */
  private readonly peers = new Map<string, number>()
  private timer: ReturnType<typeof setTimeout> | undefined
  /** When the next batch is sent. */
  private dueAt = Number.POSITIVE_INFINITY
  private flushedAt = Number.NEGATIVE_INFINITY
  private sending: Promise<void> = Promise.resolve()
  private heardItself = performance.now()
  /** Whether the full state is to be sent, and requested. */
  private asks = true
  private tellsAll = false
  private restsNext = false
  private ended = false
  /** Whether messages of the others can be received. */
  available = true

  constructor(
    private readonly channel: Store.Messages,
    private readonly remoteTokens: RemoteTokenCounter,
    private readonly log: (text: string) => void
  ) {}

  /** How many gateways take part, this one included. */
  get size(): number {
    return this.peers.size + 1
  }

  attach(fleet: ReplicatedFleet): void {
    this.fleets = [...this.fleets.filter((one) => one.isBusy()), fleet]
    this.tellsAll = true
    // What the others sent so far has not been received.
    this.asks = true
    this.wake(false)
  }

  wake(urgent: boolean): void {
    // Without other replicas, no messages are sent between two heartbeats.
    if (this.ended || this.peers.size === 0) return
    const now = performance.now()
    const at = Math.max(now, this.flushedAt + (urgent ? urgentInterval : batchInterval))
    if (this.timer !== undefined && this.dueAt <= at) return
    clearTimeout(this.timer)
    this.dueAt = at
    this.timer = setTimeout(() => {
      this.timer = undefined
      this.flushedAt = performance.now()
      void this.tell(false)
    }, at - now)
    this.timer.unref()
  }

  /** Sends what has changed; `whole`: and all that is in flight. One message after the other. */
  private tell(whole: boolean): Promise<void> {
    this.sending = this.sending.then(() => this.tellNow(whole))
    return this.sending
  }

  private async tellNow(beats: boolean): Promise<void> {
    const all = this.tellsAll || this.asks
    const changes = this.fleets.flatMap((fleet) => fleet.changes())
    const messages: Array<Message> = []
    // A newcomer asks for all that is known.
    if (changes.length > 0 && this.peers.size > 0) messages.push(...this.messages("change", changes))
    if (beats || all) {
      const [first, ...rest] = this.messages(
        "whole",
        this.fleets.flatMap((fleet) => fleet.everything(all))
      )
      const remoteTokens = this.remoteTokens.saved(Date.now())
      if (first !== undefined) messages.push({ ...first, asks: this.asks ? true : undefined, remoteTokens }, ...rest)
    }
    this.tellsAll = false
    for (const message of messages) if (!(await this.send(message))) return
  }

  /** As many messages as it takes. */
  private messages(kind: Message["kind"], servers: ReadonlyArray<ServerReport>): ReadonlyArray<Message> {
    const room = maxMessage - 1_000
    const messages: Array<Message> = []
    let part: Array<ServerReport> = []
    let size = 0
    const close = () => {
      messages.push({ from: this.id, kind: messages.length === 0 ? kind : "change", servers: part })
      part = []
      size = 0
    }
    for (const report of servers.flatMap((one) => this.pieces(one, room))) {
      const length = Buffer.byteLength(JSON.stringify(report)) + 1
      if (size + length > room && part.length > 0) close()
      part.push(report)
      size += length
    }
    close()
    return messages
  }

  /** A server with very many models is sent in pieces. */
  private pieces(report: ServerReport, room: number): ReadonlyArray<ServerReport> {
    const { models = [] } = report
    if (models.length < 2 || Buffer.byteLength(JSON.stringify(report)) <= room) return [report]
    const half = Math.ceil(models.length / 2)
    return [
      ...this.pieces({ ...report, models: models.slice(0, half) }, room),
      ...this.pieces({ url: report.url, models: models.slice(half) }, room)
    ]
  }

  private async send(message: Message): Promise<boolean> {
    const text = JSON.stringify(message)
    // A name that is too long for a message is not sent.
    if (Buffer.byteLength(text) > maxMessage) return true
    const sent = await Effect.runPromise(Effect.either(inTime(this.channel.send(text))))
    if (Either.isRight(sent)) return true
    this.lost(sent.left.reason)
    return false
  }

  private lost(reason: string): void {
    this.channel.dropSilent(maxDeafness / 2)
    this.asks = true
    if (this.available) this.log(`what other gateways do is not known: ${reason}`)
    this.available = false
  }

  private hear(text: string): void {
    const message = parsed(text)
    if (message === undefined) return
    const { asks, from, kind, remoteTokens, servers } = message
    if (from === this.id) {
      this.heardItself = performance.now()
      // The answers come after it: they are received, too.
      if (asks === true) this.asks = false
      if (!this.available) this.log("other gateways are heard again")
      this.available = true
      return
    }
    if (kind === "end") {
      this.forget(from)
      return
    }
    const isNew = !this.peers.has(from)
    this.peers.set(from, performance.now())
    for (const fleet of this.fleets) fleet.hear(from, servers, kind === "whole")
    this.remoteTokens.merge(remoteTokens, Date.now())
    if (isNew || asks === true) {
      this.tellsAll = true
      this.wake(false)
    }
  }

  private forget(peer: string): void {
    if (!this.peers.delete(peer)) return
    for (const fleet of this.fleets) fleet.forget(peer)
  }

  private readonly listen = Effect.suspend(() => this.channel.listen((text) => this.hear(text)))

  /** Subscribes, and again if no message arrives any more, not even its own. */
  private readonly listening = Effect.suspend(() => {
    let fiber: Fiber.RuntimeFiber<void, unknown> = Effect.runFork(this.listen)
    let begun = performance.now()
    const renew = Effect.suspend(() => {
      const now = performance.now()
      if (now - Math.max(begun, this.heardItself) < maxDeafness) return Effect.void
      // Its end may wait for a connection that is dead.
      this.channel.dropSilent(maxDeafness)
      const old = fiber
      begun = now
      fiber = Effect.runFork(this.listen)
      this.lost("nothing is heard")
      return Fiber.interruptFork(old)
    })
    return Effect.ensuring(
      Effect.repeat(renew, Schedule.spaced(heartbeat / 2)),
      Effect.suspend(() => Fiber.interruptFork(fiber))
    )
  })

  private readonly beat = Effect.promise(() => {
    const now = performance.now()
    for (const [peer, at] of this.peers) if (now - at > peerLife) this.forget(peer)
    // Without other replicas, it only has to receive its own heartbeat in time.
    this.restsNext = this.peers.size === 0 && !this.asks && !this.tellsAll && !this.restsNext
    return this.restsNext ? Promise.resolve() : this.tell(true)
  })

  /** Tells and listens until the scope closes. */
  readonly run: Effect.Effect<void, never, Scope.Scope> = Effect.gen(this, function* () {
    yield* Effect.forkScoped(this.listening)
    yield* Effect.forkScoped(Effect.repeat(this.beat, Schedule.spaced(heartbeat)))
    yield* Effect.addFinalizer(() =>
      Effect.promise(() => {
        this.ended = true
        clearTimeout(this.timer)
        return this.available ? this.send({ from: this.id, kind: "end", servers: [] }) : Promise.resolve(false)
      })
    )
  })
}

/** Takes part among the gateways that hear these messages, until the scope closes. */
export const make = (
  channel: Store.Messages,
  remoteTokens: RemoteTokenCounter,
  log: (text: string) => void
): Effect.Effect<ReplicaGroup, never, Scope.Scope> =>
  Effect.suspend(() => {
    const group = new ReplicaGroup(channel, remoteTokens, log)
    return Effect.as(group.run, group)
  })
