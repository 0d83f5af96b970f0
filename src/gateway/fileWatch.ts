/** Watches the configuration file: editors replace it, and Kubernetes the link to the folder that it is in. */
import { type FSWatcher, realpathSync, statSync, watch } from "node:fs"
import { basename, dirname } from "node:path"

/** Editors write a file in several steps. */
const settleTime = 150

/** Where a file really is, and which version of it. */
const versionOf = (file: string): { readonly folder: string | undefined; readonly version: string } => {
  try {
    const real = realpathSync(file)
    const { ino, mtimeMs, size } = statSync(real)
    return { folder: dirname(real), version: `${real} ${ino} ${mtimeMs} ${size}` }
  } catch {
    return { folder: undefined, version: "" }
  }
}

/**
 * Calls `changed` after each change of `file`, also where it is a link, or in a folder that is one and is replaced.
 * `failed` is called where that can no longer be seen. Returns what ends it.
 */
export const watchFile = (file: string, changed: () => void, failed: () => void): (() => void) => {
  const watchers = new Map<string, FSWatcher>()
  let seen = versionOf(file)
  let settling: ReturnType<typeof setTimeout> | undefined
  let looking: ReturnType<typeof setTimeout> | undefined

  const settle = (): void => {
    clearTimeout(settling)
    settling = setTimeout(() => {
      seen = versionOf(file)
      follow()
      changed()
    }, settleTime)
  }
  /** Something else has changed beside it. */
  const look = (): void => {
    looking ??= setTimeout(() => {
      looking = undefined
      if (versionOf(file).version !== seen.version) settle()
    }, settleTime).unref()
  }
  const watchFolder = (folder: string): void => {
    if (watchers.has(folder)) return
    try {
      const watcher = watch(folder, { persistent: false }, (_, name) => {
        if (name === basename(file)) settle()
        else look()
      })
      watcher.on("error", failed)
      watchers.set(folder, watcher)
    } catch {
      // The folder does not exist, so there is nothing to watch.
    }
  }
  const follow = (): void => {
    const folders = new Set([dirname(file), seen.folder ?? dirname(file)])
    for (const [folder, watcher] of watchers) {
      if (folders.has(folder)) continue
      watcher.close()
      watchers.delete(folder)
    }
    folders.forEach(watchFolder)
  }
  follow()
  return () => {
    clearTimeout(settling)
    clearTimeout(looking)
    for (const watcher of watchers.values()) watcher.close()
  }
}
