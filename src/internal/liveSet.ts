/**
 * A set for thousands of additions and removals per second.
 *
 * A `Set` is rebuilt after as many additions as its capacity, and old tables, which point to each other, stay in memory
 * until the next full collection. Here a removed member is overwritten by the last.
 *
 * @internal
 */

/** @internal */
export interface LiveMember {
  /** Its index, or -1; used by the set only. */
  seat: number
}

/** @internal */
export class LiveSet<A extends LiveMember> {
  private readonly members: Array<A> = []

  get size(): number {
    return this.members.length
  }

  add(member: A): void {
    if (member.seat !== -1) return
    member.seat = this.members.length
    this.members.push(member)
  }

  remove(member: A): void {
    const { seat } = member
    if (seat === -1 || this.members[seat] !== member) return
    member.seat = -1
    const last = this.members.pop()
    if (last === undefined || last === member) return
    this.members[seat] = last
    last.seat = seat
  }

  /** `use` may remove members. */
  each(use: (member: A) => void): void {
    for (const member of [...this.members]) use(member)
  }
}
