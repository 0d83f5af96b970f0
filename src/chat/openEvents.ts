/** Events that are pulled, to their end or until they are cancelled: an `OpenAnswer` is one. */
export interface OpenEvents<out Event> {
  /** The events since the last pull, at least one; `undefined` at the end. One pull at a time. */
  pull(): Promise<ReadonlyArray<Event> | undefined>
  /** Cancels the server's work at once; pulls end, or reject with `reason` if there is one. */
  cancel(reason?: unknown): void
  /** Calls `listener` once nothing more will happen. */
  onClose(listener: () => void): void
}
