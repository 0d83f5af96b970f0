/**
 * Which servers have changed, in order. A change of a server counts for each model that it has, and a server may have
 * thousands: so it is noted here once, and the columns of a model catch up when they are read.
 */

/** The number of changes that are kept: columns that are further behind are rewritten. */
const capacity = 1_024

export class ServerChanges {
  /** How many changes there have been. */
  sequence = 0
  private readonly urls = new Array<string>(capacity)

  /** Notes a change. */
  note(url: string): void {
    this.urls[this.sequence % capacity] = url
    this.sequence++
  }

  /** Whether the changes from this number on are still kept. */
  keeps(from: number): boolean {
    return this.sequence - from <= capacity
  }

  /** The server of a change that is kept. */
  at(number: number): string {
    return this.urls[number % capacity] ?? ""
  }
}
