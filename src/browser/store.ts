/**
 * What a page keeps of servers and registries for its next visit, in `localStorage` or something like it. A store that is
 * full or forbidden keeps nothing.
 */

/**
 * Where a page keeps texts: `localStorage`, `sessionStorage`, or an object like them.
 *
 * @since 0.2.0
 * @category models
 */
export interface KeyValueStorage {
  /** The text of a key, or `null`. */
  getItem(key: string): string | null
  /** Keeps a text; may throw where there is no room. */
  setItem(key: string, value: string): void
}

export interface StoredText {
  /** Milliseconds since the epoch. */
  readonly at: number
  readonly text: string
}

export interface PageStore {
  readonly read: (key: string) => StoredText | undefined
  readonly write: (key: string, kept: StoredText) => void
}

const prefix = "aicortex:"

const own = (): KeyValueStorage | undefined => {
  try {
    return (globalThis as { readonly localStorage?: KeyValueStorage }).localStorage
  } catch {
    // Forbidden by the user, or in a sandbox.
    return undefined
  }
}

/** Over a given storage; by default `localStorage`, `false` for none. */
export const make = (storage: KeyValueStorage | false = own() ?? false): PageStore => ({
  read: (key) => {
    try {
      const found: unknown = storage === false ? null : JSON.parse(storage.getItem(prefix + key) ?? "null")
      if (typeof found !== "object" || found === null) return undefined
      const { at, text } = found as Partial<StoredText>
      return typeof at === "number" && typeof text === "string" ? { at, text } : undefined
    } catch {
      return undefined
    }
  },
  write: (key, kept) => {
    try {
      if (storage !== false) storage.setItem(prefix + key, JSON.stringify(kept))
    } catch {
      // No room: the next visit asks again.
    }
  }
})
