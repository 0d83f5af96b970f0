/** Ids of conversations. */

const randomId = (): string =>
  Array.from(globalThis.crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join(
    ""
  )

/** The id says it, so that no store can lose it. It is no digit of an id. */
const privateMark = "p"
const privateId = /[0-9a-f]{15}p$/

/**
 * Whether a conversation was created as private: its calls stay on local servers.
 *
 * @since 0.2.0
 * @category guards
 */
export const isPrivate = (id: string): boolean => privateId.test(id)

/** A new id, which begins with its owner. */
export const newId = (owner: string, isPrivate: boolean): string =>
  owner + (isPrivate ? `${randomId().slice(0, -1)}${privateMark}` : randomId())

/** Whether this is an id that this owner's conversations have. */
export const isIdOf = (owner: string, id: string): boolean =>
  id.startsWith(owner) && /^[0-9a-f]{15}[0-9a-fp]$/.test(id.slice(owner.length))
