/**
 * The file system of a page: the addresses of registry files, each as a folder that holds one file. What was read is kept
 * for an hour, and read again in the background after half of it; an old copy is better than none.
 */
import { SystemError } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as HttpClient from "@effect/platform/HttpClient"
import * as Path from "@effect/platform/Path"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { PageStore } from "./store.js"

/** In milliseconds. */
const fresh = 60 * 60 * 1000
const fetchTimeout = 8_000

const failed = (address: string, description: string) =>
  new SystemError({
    module: "FileSystem",
    method: "readFileString",
    reason: "Unknown",
    pathOrDescriptor: address,
    description
  })

/** The name of the file that an address ends in: the family of its models. */
const nameOf = (address: string): string => {
  const name = /([^/?#]+)(?:[?#].*)?$/.exec(address)?.[1] ?? "registry"
  return name.endsWith(".json") ? name : `${name}.json`
}

const layerFiles = (store: PageStore): Layer.Layer<FileSystem.FileSystem, never, HttpClient.HttpClient> =>
  Layer.effect(
    FileSystem.FileSystem,
    Effect.map(HttpClient.HttpClient, (client) => {
      const ask = (address: string) =>
        client.get(address).pipe(
          Effect.filterOrFail(
            ({ status }) => status === 200,
            ({ status }) => failed(address, `HTTP ${status}`)
          ),
          Effect.flatMap((response) => response.text),
          Effect.timeoutFail({
            duration: fetchTimeout,
            onTimeout: () => failed(address, `no answer within ${fetchTimeout / 1000} s`)
          }),
          Effect.mapError((error) => (error._tag === "SystemError" ? error : failed(address, error.message))),
          Effect.tap((text) =>
            Effect.map(Clock.currentTimeMillis, (at) => store.write(`registry:${address}`, { at, text }))
          )
        )
      const text = (address: string) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => {
          const kept = store.read(`registry:${address}`)
          if (kept === undefined) return ask(address)
          const age = now - kept.at
          if (age < 0 || age >= fresh) return Effect.orElseSucceed(ask(address), () => kept.text)
          if (age < fresh / 2) return Effect.succeed(kept.text)
          return Effect.as(Effect.forkDaemon(Effect.ignore(ask(address))), kept.text)
        })
      return FileSystem.makeNoop({
        readDirectory: (folder) => Effect.succeed(folder === "" ? [] : [nameOf(folder)]),
        stat: () => Effect.succeed({ type: "File", size: FileSystem.Size(0) } as FileSystem.File.Info),
        readFileString: text
      })
    })
  )

/** A path is the address of the folder, whatever is in it. */
const layerPath: Layer.Layer<Path.Path> = Layer.effect(
  Path.Path,
  Effect.map(Path.Path, (path) => Path.Path.of({ ...path, join: (folder = "") => folder }))
).pipe(Layer.provide(Path.layer))

/** Both. */
export const layer = (store: PageStore): Layer.Layer<FileSystem.FileSystem | Path.Path, never, HttpClient.HttpClient> =>
  Layer.merge(layerFiles(store), layerPath)
