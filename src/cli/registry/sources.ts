/** Where a command reads from: addresses, files, folders, standard input. */
import { createHash } from "node:crypto"
import { stat } from "node:fs/promises"
import { basename, join } from "node:path"
import * as HttpClient from "@effect/platform/HttpClient"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Inventory from "../../registry/pipeline/inventory.js"
import { familyFile, type PresentFile } from "../../registry/pipeline/plan.js"
import type { Rejected } from "../../registry/pipeline/record.js"
import * as RegistryRequest from "../../registry/registryRequest.js"
import * as RegistryUrls from "../../registry/registryUrl.js"
import type { Server } from "../../Server.js"
import { CurrentSettings, type RegistryUrl } from "../../Settings.js"
import { CommandFailed, UsageError } from "../errors.js"
import * as Output from "../output.js"
import * as Stdin from "../stdin.js"
import * as Folder from "./folder.js"

/** More lines than this would hide the result. */
const maxShown = 20

const usage = (command: string, message: string) => new UsageError({ message, command: ["registry", command] })

/** The registry folder that a command is about: the given one, else the first of the settings that is no address. */
export const registryOf = (command: string, given: string | undefined) =>
  Effect.flatMap(CurrentSettings, ({ registry }) => {
    const isPath = (source: string | RegistryUrl): source is string => typeof source === "string"
    const folder = given ?? registry.find(isPath)
    return folder === undefined
      ? Effect.fail(usage(command, "no registry folder is known: name it with --registry, or set AICORTEX_REGISTRY"))
      : Effect.succeed(folder)
  })

/** The text of a file, or of standard input if it is `-`. */
export const readInput = (path: string) => (path === "-" ? Stdin.all : Folder.readFile(path, true))

/** Writes a result to a file, or to standard output if that is `-`. */
export const writeOutput = (path: string, text: string) =>
  path === "-" ? Output.writeLine(text) : Folder.writeFile(path, text)

/** The value of JSON, or what it is that is none. */
export const parseJson = (path: string, text: string) =>
  Effect.try({
    try: (): unknown => JSON.parse(text),
    catch: (error) =>
      new CommandFailed({ message: `${path} is not JSON: ${error instanceof Error ? error.message : error}` })
  })

/** The sources in these files of a folder. */
export const inFiles = (folder: string, files: ReadonlyArray<PresentFile>): ReadonlyArray<Inventory.Source> =>
  files.map((file) => ({ ...(familyFile(file) ?? file), name: join(folder, file.name) }))

/** The sources in a folder: family files, and lists of servers. */
export const inFolder = Effect.fnUntraced(function* (folder: string) {
  const files = yield* Folder.readFolder(folder)
  if (files === undefined) return yield* new CommandFailed({ message: `there is no folder ${folder}` })
  return inFiles(folder, files)
})

const kindOf = (path: string): Effect.Effect<"folder" | "file" | undefined> =>
  Effect.promise(() =>
    stat(path).then(
      (found) => (found.isDirectory() ? "folder" : "file"),
      () => undefined
    )
  )

/** An address of a list, such as https://host/servers.json, and not of a server. */
const isDocument = (argument: string): boolean =>
  /^https?:\/\//i.test(argument) && /\.(json|txt)$/i.test(argument.replace(/[?#].*$/, ""))

/** A registry by its address. What is configured for it, such as its key, holds. */
const download = Effect.fnUntraced(function* (argument: string) {
  const made = yield* Effect.mapError(
    RegistryUrls.fromOptions(argument, "the command line"),
    ({ reason }) => new CommandFailed({ message: reason })
  )
  const { registry } = yield* CurrentSettings
  const source = registry.find((one) => typeof one === "object" && one.url === made.url) ?? made
  if (typeof source === "string") return yield* new CommandFailed({ message: `${source} is no address` })
  const client = HttpClient.withTracerDisabledWhen(yield* HttpClient.HttpClient, () => true)
  const answer = yield* Effect.mapError(
    RegistryRequest.get(client, source, undefined),
    ({ message }) => new CommandFailed({ message })
  )
  return { name: source.name, text: answer === "unchanged" ? "" : answer.text }
})

/** The sources that an argument names. */
const inArgument = Effect.fnUntraced(function* (argument: string) {
  if (argument === "-") return [{ name: "standard input", text: yield* Stdin.all }]
  if (isDocument(argument)) return [yield* download(argument)]
  if (/^https?:\/\//i.test(argument)) return [{ name: "the command line", text: argument }]
  const kind = yield* kindOf(argument)
  if (kind === "folder") return yield* inFolder(argument)
  if (kind === "file") {
    const file = { name: basename(argument), text: yield* Folder.readFile(argument, true) }
    return [{ ...(familyFile(file) ?? file), name: argument }]
  }
  if (/^\[?[\w.:-]+\]?:\d+$/.test(argument)) return [{ name: "the command line", text: argument }]
  return yield* new CommandFailed({ message: `there is no file or folder ${argument}, and it is no address` })
})

/** What all of these hold. */
export const gather = (given: ReadonlyArray<string>) =>
  Effect.map(Effect.forEach(given, inArgument), (sources) => Inventory.read(sources.flat()))

/** The servers of an inventory; what is configured for one of them, such as its key, holds. */
export const serversOf = (inventory: Inventory.Inventory) =>
  Effect.map(CurrentSettings, ({ servers }): ReadonlyArray<Server> => {
    const configured = new Map(servers.map((server) => [server.url, server]))
    return [...inventory.servers.values()]
      .map(({ server }) => configured.get(server.url) ?? server)
      .sort((a, b) => (a.url < b.url ? -1 : 1))
  })

/** An identifier that is the same for the same server and model: a UUID of version 8, which is free for hashes. */
export const newId = (key: string): string => {
  const hex = createHash("sha256").update(key).digest("hex")
  const variant = ((Number.parseInt(hex[16] ?? "0", 16) & 3) | 8).toString(16)
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `8${hex.slice(13, 16)}`,
    variant + hex.slice(17, 20),
    hex.slice(20, 32)
  ].join("-")
}

/** Says on standard error what was left out. */
export const tellRejected = (rejected: ReadonlyArray<Rejected>) =>
  Effect.gen(function* () {
    for (const { model, reason, source } of rejected.slice(0, maxShown)) {
      yield* Output.notice(`left out: ${source}${model === undefined ? "" : ` ${model}`}: ${reason}`)
    }
    const more = rejected.length - maxShown
    if (more > 0) yield* Output.notice(`left out: ${more} more; --json names them all`)
  })

/** A report and a result cannot both be on standard output. */
export const checkOutput = (command: string, output: string, json: boolean) =>
  json && output === "-"
    ? Effect.fail(usage(command, "--json and --output - would both write to standard output"))
    : Effect.void

/** The value of a positional argument, or what the step before writes by default. */
export const orDefault = (given: Option.Option<string>, otherwise: string): string =>
  Option.getOrElse(given, () => otherwise)
