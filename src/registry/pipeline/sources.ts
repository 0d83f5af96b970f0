/** Where a step reads from: addresses, files, folders, texts. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as HttpClient from "@effect/platform/HttpClient"
import * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import { InvalidRequest } from "../../Errors.js"
import { RegistryFileFailed } from "../../errors/registry.js"
import type { Host } from "../../modelStore/host.js"
import type { Server } from "../../Server.js"
import { CurrentSettings, type RegistryUrl } from "../../Settings.js"
import * as RegistryRequest from "../registryRequest.js"
import * as RegistryUrls from "../registryUrl.js"
import * as Folder from "./folder.js"
import * as Inventory from "./inventory.js"
import type { Source } from "./options.js"
import { familyFile, type PresentFile } from "./plan.js"

/** The registry folder that a step is about: the given one, else the first of the settings that is no address. */
export const registryOf = (given: string | undefined) =>
  Effect.flatMap(CurrentSettings, ({ registry }) => {
    const isPath = (source: string | RegistryUrl): source is string => typeof source === "string"
    const folder = given ?? registry.find(isPath)
    return folder === undefined
      ? Effect.fail(
          new InvalidRequest({
            field: "registry",
            reason: "is not given, and the settings name no folder of registry files (AICORTEX_REGISTRY)"
          })
        )
      : Effect.succeed(folder)
  })

/** The sources in these files of a folder. */
export const inFiles = (folder: string, files: ReadonlyArray<PresentFile>) =>
  Effect.map(
    Path.Path,
    (path): ReadonlyArray<Inventory.Source> =>
      files.map((file) => ({ ...(familyFile(file) ?? file), name: path.join(folder, file.name) }))
  )

/** The sources in a folder: family files, and lists of servers. */
export const inFolder = Effect.fnUntraced(function* (folder: string) {
  const files = yield* Folder.readFolder(folder)
  if (files === undefined) return yield* new RegistryFileFailed({ path: folder, detail: "is no folder that exists" })
  return yield* inFiles(folder, files)
})

/** An address of a list, such as https://host/servers.json, and not of a server. */
const isDocument = (address: string): boolean =>
  /^https?:\/\//i.test(address) && /\.(json|txt)$/i.test(address.replace(/[?#].*$/, ""))

/** A registry by its address. What is configured for it, such as its key, holds. */
const download = Effect.fnUntraced(function* (address: string) {
  const made = yield* Effect.mapError(
    RegistryUrls.fromOptions(address, "the sources"),
    ({ reason }) => new InvalidRequest({ field: "sources", reason })
  )
  const { registry } = yield* CurrentSettings
  const configured = registry.find((one): one is RegistryUrl => typeof one === "object" && one.url === made.url)
  const client = HttpClient.withTracerDisabledWhen(yield* HttpClient.HttpClient, () => true)
  const answer = yield* RegistryRequest.get(client, configured ?? made, undefined)
  return { name: made.name, text: answer === "unchanged" ? "" : answer.text }
})

const address = (text: string): Inventory.Source => ({ name: "the sources", text })

/** What a source names. */
const inSource = Effect.fnUntraced(function* (source: Source) {
  if (typeof source !== "string") return [source]
  if (isDocument(source)) return [yield* download(source)]
  if (/^https?:\/\//i.test(source)) return [address(source)]
  const [fs, path] = yield* Effect.all([FileSystem.FileSystem, Path.Path])
  const kind = yield* Effect.match(fs.stat(source), { onSuccess: ({ type }) => type, onFailure: () => undefined })
  if (kind === "Directory") return yield* inFolder(source)
  if (kind !== undefined) {
    const file = { name: path.basename(source), text: yield* Folder.readFile(source, true) }
    return [{ ...(familyFile(file) ?? file), name: source }]
  }
  if (/^\[?[\w.:-]+\]?:\d+$/.test(source)) return [address(source)]
  return yield* new RegistryFileFailed({ path: source, detail: "is no file or folder that exists, and no address" })
})

/** What all of these hold. */
export const gather = (sources: ReadonlyArray<Source>) =>
  Effect.map(Effect.forEach(sources, inSource), (all) => Inventory.read(all.flat()))

/** The servers of an inventory; what is configured for one of them, such as its key, holds. Fails where there is none. */
export const serversOf = (inventory: Pick<Inventory.Inventory, "servers">) =>
  Effect.flatMap(CurrentSettings, ({ servers }) => {
    const configured = new Map(servers.map((server) => [server.url, server]))
    const all: ReadonlyArray<Server> = [...inventory.servers.values()]
      .map(({ server }) => configured.get(server.url) ?? server)
      .sort((a, b) => (a.url < b.url ? -1 : 1))
    return all.length === 0
      ? Effect.fail(new InvalidRequest({ field: "sources", reason: "name no server to ask" }))
      : Effect.succeed(all)
  })

const encoder = new TextEncoder()

/** An identifier that is the same for the same server and model: a UUID of version 8, which is free for hashes. */
export const newIdOf =
  (sha256: Host["sha256"]) =>
  (key: string): string => {
    const hash = sha256()
    hash.update(encoder.encode(key))
    const hex = hash.digest()
    const variant = ((Number.parseInt(hex[16] ?? "0", 16) & 3) | 8).toString(16)
    return [
      hex.slice(0, 8),
      hex.slice(8, 12),
      `8${hex.slice(13, 16)}`,
      variant + hex.slice(17, 20),
      hex.slice(20, 32)
    ].join("-")
  }
