/** Watches the files of registries, without keeping the process alive. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { RegistryWatch } from "../registry/registryWatch.js"

/** How often files are polled if the system does not report changes, in milliseconds. */
const pollInterval = 2_000

const watch = (path: string, changed: () => void) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      // Loaded only where there is a registry of files.
      const { watch } = await import("chokidar")
      const start = (usePolling: boolean) =>
        watch(path, { persistent: false, depth: 0, usePolling, interval: pollInterval, ignorePermissionErrors: true })
      let watcher = start(false)
      let closed = false
      const listen = (isFallback: boolean): void => {
        const own = watcher
        // What changed between reading the files and watching them.
        own.on("ready", changed)
        own.on("all", changed)
        own.on("error", () => {
          if (isFallback || closed || own !== watcher) return
          // The system has no watches left, or cannot watch this folder.
          watcher = start(true)
          void own.close()
          listen(true)
        })
      }
      listen(false)
      return () => {
        closed = true
        return watcher.close()
      }
    }),
    (close) => Effect.promise(close)
  ).pipe(Effect.asVoid, Effect.interruptible)

export const layer: Layer.Layer<never> = Layer.succeed(RegistryWatch, watch)
