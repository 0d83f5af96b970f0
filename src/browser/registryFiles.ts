/** What a page has in place of files: none to read, and copies of registries in its store. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { RegistryCopies } from "../registry/registryCopies.js"
import type { PageStore } from "./store.js"

/** No files: the built-in catalogue is an empty folder. */
export const layerFiles: Layer.Layer<FileSystem.FileSystem | Path.Path> = Layer.merge(
  FileSystem.layerNoop({
    readDirectory: () => Effect.succeed([]),
    stat: () => Effect.succeed({ type: "Directory", size: FileSystem.Size(0) } as FileSystem.File.Info)
  }),
  Path.layer
)

const keyOf = (url: string): string => `registry:${url}`

/**
 * Copies for the next visit. The source is asked for its whole content each time: another origin would have to allow the
 * headers of a conditional request, and the browser has a cache of its own.
 */
export const layerCopies = (store: PageStore): Layer.Layer<never> =>
  Layer.succeed(RegistryCopies, {
    conditional: false,
    read: (url) =>
      Effect.sync(() => {
        const kept = store.read(keyOf(url))
        return kept === undefined
          ? undefined
          : { text: kept.text, etag: undefined, lastModified: undefined, checkedAt: kept.at, readAt: kept.at }
      }),
    write: (url, { checkedAt, text }) => Effect.sync(() => store.write(keyOf(url), { at: checkedAt, text })),
    confirm: (url, at) =>
      Effect.sync(() => {
        const kept = store.read(keyOf(url))
        if (kept !== undefined) store.write(keyOf(url), { at, text: kept.text })
      })
  })

/** The address of a registry: a page may name it relative to its own. */
export const absolute = <A>(source: A): A => {
  const base = (globalThis as { readonly location?: { readonly href?: string } }).location?.href
  return typeof source === "string" && base !== undefined && URL.canParse(source, base)
    ? (new URL(source, base).href as A)
    : source
}
