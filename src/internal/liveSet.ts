/**
 * Who is there just now, where thousands a second come and go.
 *
 * A `Set` is rebuilt after as many additions as it has room for, and what it held then stays in memory until the next
 * full collection, because one dead table points to the next. Here who leaves is overwritten by the last.
 *
 * @internal
 */

/** @internal */
export interface LiveMember {
  /** Where it stands, -1 where it does not; for the roster alone. */
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
