/**
 * The gateway's events, for those who watch it. Without watchers, `active` is false and nothing is published; a slow
 * watcher misses events, gets a notice of that, and never holds up a request.
 */

/** The types of events. */
export const eventTypes = ["fleet", "request", "download", "model"] as const

/**
 * - `fleet`: the state of a server has changed
 * - `request`: a request began, was sent to a server, or ended
 * - `download`: the progress of a model that is being downloaded
 * - `model`: a model was created, copied, removed, loaded or unloaded
 */
export type EventType = (typeof eventTypes)[number]

/**
 * Whose an event is: the name of the key whose request it is about, `null` for a request without a key. Without an
 * owner an event is for everybody.
 */
export type Owner = string | null | undefined

/** An event as it is kept: `data` is JSON, `at` is in milliseconds since the epoch. */
export interface PublishedEvent {
  readonly number: number
  readonly type: EventType
  readonly data: string
  readonly owner?: Owner
}

/** What the processes of one gateway ask each other. */
export type Question =
  | { readonly type: "fleet" }
  | { readonly type: "requests" }
  | { readonly type: "cancel"; readonly id: string }

/**
 * Several processes with one sequence of events: an event goes to all of them, this one included, and each of them
 * publishes while any has a watcher.
 */
export interface EventLink {
  readonly sequence: () => string
  readonly send: (type: EventType, data: string, owner?: Owner) => void
  /** Whether this process has watchers. */
  readonly watched: (on: boolean) => void
  readonly attach: (
    received: (event: PublishedEvent) => void,
    needed: (on: boolean, last: number) => void,
    answer: (question: Question) => Promise<string>
  ) => void
  /** What each of the other processes answers, as JSON; one that does not in time is left out. */
  readonly ask: (question: Question) => Promise<ReadonlyArray<string>>
}

/** Receives text, in UTF-8. `false`: it is slow, and is to get nothing more before `drained`. */
export interface EventSink {
  readonly write: (text: Buffer) => boolean
  readonly drained: () => Promise<void>
  readonly end: () => void
}

/** Number of events that are kept for those who reconnect, and their length in characters. */
const maxKept = 4_096
const maxKeptLength = 4 * 1024 * 1024

/** A longer event is not passed on, in characters. */
const maxLength = 64 * 1024

/**
 * Events within this time are sent together, in milliseconds: each watcher costs a write each time, so many of them are
 * told less often.
 */
const minBatchTime = 250
const batchTimePerWatcher = 10
const maxBatchTime = 500

/** How long events are published after the last watcher has left, for one that reconnects, in milliseconds. */
const lingerTime = 30_000

/** Watchers at once, of all clients together. */
export const maxWatchers = 256

/** A number that a client has seen, in the sequence that it belongs to. */
const position = /^([a-z0-9]+)-(\d{1,15})$/

interface Watcher {
  readonly types: ReadonlySet<EventType>
  /** The key whose events it sees alone; `undefined`: it sees all. */
  readonly only: string | undefined
  /** The same for all that read the same events. */
  readonly key: string
  readonly sink: EventSink
  /** The last event that it got, or that is not for it. */
  seen: number
  slow: boolean
}

export class EventsHub {
  /** Whether anybody watches, or did a moment ago: only then is anything published. */
  active = false
  private readonly watchers = new Set<Watcher>()
  private readonly ownSequence = Date.now().toString(36)
  private kept: Array<PublishedEvent> = []
  private keptLength = 0
  private last = 0
  private timer: ReturnType<typeof setTimeout> | undefined
  private linger: ReturnType<typeof setTimeout> | undefined
  private start: (() => () => void) | undefined
  private stop: (() => void) | undefined
  private closed = false

  /** Answers the other processes, as JSON. */
  private onQuestion: (question: Question) => Promise<string> = () => Promise.resolve("null")

  constructor(private readonly link?: EventLink) {
    link?.attach(
      (event) => this.receive(event),
      (on, last) => {
        if (this.kept.length === 0) this.last = Math.max(this.last, last)
        this.activate(on)
      },
      (question) => this.onQuestion(question)
    )
  }

  /** The sequence that the numbers of events belong to; another one after a restart. */
  get sequence(): string {
    return this.link?.sequence() ?? this.ownSequence
  }

  /** The id of the last event. */
  get position(): string {
    return `${this.sequence}-${this.last}`
  }

  get watcherCount(): number {
    return this.watchers.size
  }

  /** `start` runs while events are wanted, and gives what stops it. It replaces the one before. */
  source(start: () => () => void): void {
    this.stop?.()
    this.start = start
    this.stop = this.active && !this.closed ? start() : undefined
  }

  /** `answer` is called where another process asks; what it gives becomes JSON. */
  answers(answer: (question: Question) => unknown): void {
    this.onQuestion = async (question) => JSON.stringify((await answer(question)) ?? null)
  }

  /** What the other processes of this gateway answer. */
  async ask<A>(question: Question): Promise<ReadonlyArray<A>> {
    const texts = (await this.link?.ask(question)) ?? []
    return texts.map((text): A | null => JSON.parse(text)).filter((value) => value !== null)
  }

  /** `data` must hold no key, and nothing of a prompt or an answer. */
  publish(type: EventType, data: object, owner?: Owner): void {
    if (!this.active) return
    const json = JSON.stringify(data)
    if (json.length > maxLength) return
    if (this.link === undefined) this.receive({ number: this.last + 1, type, data: json, owner })
    else this.link.send(type, json, owner)
  }

  /**
   * Sends the events of these types, from the one after `seen` on (the id of an event), or from now on. Of those that
   * have an owner, only those of `only`, if it is given.
   */
  watch(types: ReadonlySet<EventType>, seen: string | undefined, sink: EventSink, only?: string): () => void {
    const key = `${[...types].sort().join()} ${only === undefined ? "" : JSON.stringify(only)}`
    const watcher: Watcher = { types, only, key, sink, seen: this.last, slow: false }
    this.watchers.add(watcher)
    clearTimeout(this.linger)
    if (this.watchers.size === 1) {
      this.link?.watched(true)
      this.activate(true)
    }
    const [, sequence, number] = position.exec(seen ?? "") ?? []
    // Another process may have sent more than has arrived here yet.
    const newest = this.last + (this.link === undefined ? 0 : maxKept)
    if (sequence === this.sequence && Number(number) <= newest) watcher.seen = Number(number)
    else if (seen !== undefined) this.tellGap(watcher, undefined)
    this.deliver(watcher, new Map())
    return () => this.leave(watcher)
  }

  /** Ends all streams: the clients come again, and go on where they were. */
  disconnect(): void {
    for (const { sink } of [...this.watchers]) sink.end()
  }

  /** Ends all streams, and publishes nothing more. */
  close(): void {
    this.closed = true
    this.disconnect()
    this.activate(false)
    clearTimeout(this.linger)
    clearTimeout(this.timer)
  }

  private leave(watcher: Watcher): void {
    if (!this.watchers.delete(watcher) || this.watchers.size > 0) return
    this.linger = setTimeout(() => {
      this.link?.watched(false)
      if (this.link === undefined) this.activate(false)
    }, lingerTime)
    this.linger.unref()
  }

  private activate(on: boolean): void {
    if (this.active === on || (on && this.closed)) return
    this.active = on
    if (on) this.stop = this.start?.()
    else {
      this.stop?.()
      this.stop = undefined
      this.kept = []
      this.keptLength = 0
    }
  }

  private receive(event: PublishedEvent): void {
    this.last = event.number
    this.kept.push(event)
    this.keptLength += event.data.length
    if (this.kept.length > maxKept || this.keptLength > maxKeptLength) {
      // A part at once, because shifting an array costs as much as its length.
      for (const { data } of this.kept.splice(0, Math.ceil(this.kept.length / 8))) this.keptLength -= data.length
    }
    if (this.timer !== undefined || this.watchers.size === 0) return
    const batchTime = Math.max(minBatchTime, batchTimePerWatcher * this.watchers.size)
    this.timer = setTimeout(() => this.flush(), Math.min(batchTime, maxBatchTime))
    this.timer.unref()
  }

  private flush(): void {
    this.timer = undefined
    const texts = new Map<string, Buffer>()
    for (const watcher of this.watchers) if (!watcher.slow) this.deliver(watcher, texts)
  }

  /** `texts` are those that other watchers got in this turn. */
  private deliver(watcher: Watcher, texts: Map<string, Buffer>): void {
    const first = this.kept[0]?.number ?? this.last + 1
    if (watcher.seen + 1 < first) this.tellGap(watcher, first - watcher.seen - 1)
    const key = `${watcher.seen} ${watcher.key}`
    let text = texts.get(key)
    if (text === undefined) {
      text = Buffer.from(this.textAfter(watcher))
      texts.set(key, text)
    }
    watcher.seen = Math.max(watcher.seen, this.last)
    if (text.length > 0) this.send(watcher, text)
  }

  private textAfter({ only, seen, types }: Watcher): string {
    let text = ""
    const { kept } = this
    const first = kept[0]?.number ?? 0
    for (let i = Math.max(0, seen + 1 - first); i < kept.length; i++) {
      const event = kept[i]
      if (event === undefined || !types.has(event.type)) continue
      if (only !== undefined && event.owner !== undefined && event.owner !== only) continue
      text += `id: ${this.sequence}-${event.number}\nevent: ${event.type}\ndata: ${event.data}\n\n`
    }
    return text
  }

  /** `missed` is how many events it did not get, if that is known. */
  private tellGap(watcher: Watcher, missed: number | undefined): void {
    watcher.seen = missed === undefined ? this.last : watcher.seen + missed
    const id = `${this.sequence}-${watcher.seen}`
    const data = JSON.stringify({ missed: missed ?? null })
    this.send(watcher, Buffer.from(`id: ${id}\nevent: gap\ndata: ${data}\n\n`))
  }

  private send(watcher: Watcher, text: Buffer): void {
    if (watcher.sink.write(text)) return
    watcher.slow = true
    void watcher.sink.drained().then(() => {
      watcher.slow = false
      if (this.watchers.has(watcher)) this.deliver(watcher, new Map())
    })
  }
}
