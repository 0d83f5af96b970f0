/**
 * Work that holds up the event loop, and with it everybody: reading large bodies, for instance. It is done in pieces, one
 * at a time, and after each the loop belongs to others for a while, so that no client can keep it busy alone.
 */

/** After a piece that took some time, others have the loop for this many times as long. */
const rest = 3

/** But never for longer than this, in milliseconds. */
const maxRest = 1_000

export class HeavyWork {
  /** Owners with waiting work, in the order in which they are served next. */
  private readonly owners = new Map<string, Array<() => void>>()
  private readyAt = 0
  private scheduled = false

  /** Does one piece of work when it is its turn. Owners take turns, however many pieces each has waiting. */
  run<A>(owner: string, work: () => A): Promise<A> {
    return new Promise((resolve, reject) => {
      const piece = () => {
        try {
          resolve(work())
        } catch (error) {
          reject(error)
        }
      }
      const waiting = this.owners.get(owner)
      if (waiting === undefined) this.owners.set(owner, [piece])
      else waiting.push(piece)
      this.schedule()
    })
  }

  private schedule(): void {
    if (this.scheduled || this.owners.size === 0) return
    this.scheduled = true
    const wait = this.readyAt - performance.now()
    if (wait > 0) setTimeout(() => this.next(), Math.ceil(wait))
    else setImmediate(() => this.next())
  }

  private next(): void {
    const [first] = this.owners
    if (first === undefined) return
    const [owner, waiting] = first
    const piece = waiting.shift()
    this.owners.delete(owner)
    if (waiting.length > 0) this.owners.set(owner, waiting)
    const began = performance.now()
    piece?.()
    // The synchronous use of the result counts as well.
    setImmediate(() => {
      const now = performance.now()
      this.readyAt = now + Math.min(maxRest, (now - began) * rest)
      this.scheduled = false
      this.schedule()
    })
  }
}
