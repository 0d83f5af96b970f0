/**
 * A change of several registry files at once. All new contents are written beside the files first, then one small file
 * names them: from there on the change is made, even if the process is killed, and the next process that reads or
 * writes the folder takes the new contents. Without that file, the old ones hold.
 */

/** The file that names what is about to change. It is no registry file: its name does not end in `.json`. */
export const pendingName = ".pending.tmp"

/** Where the new content of a file waits. */
export const stagedName = (name: string): string => `.${name}.staged.tmp`

/** Which files of the folder become others, and which go. */
export interface PendingChange {
  readonly write: ReadonlyArray<string>
  readonly remove: ReadonlyArray<string>
}

const isNames = (value: unknown): value is ReadonlyArray<string> =>
  Array.isArray(value) && value.every((name) => typeof name === "string" && !/[/\\]/.test(name) && name !== "")

/** What such a file says; `undefined` if it is none of ours. */
export const parsePending = (text: string): PendingChange | undefined => {
  try {
    const { remove, write } = JSON.parse(text) as { readonly write?: unknown; readonly remove?: unknown }
    return isNames(write) && isNames(remove) ? { write, remove } : undefined
  } catch {
    return undefined
  }
}
