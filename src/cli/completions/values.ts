/**
 * The values that a shell completes: from the settings, from what is kept in files, and from servers that answer at
 * once.
 */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as ConfigFile from "../../config/file.js"
import { fleet } from "../../config/fleet.js"
import { gateway } from "../../config/gateway.js"
import * as Config from "../../config/resolve.js"
import type { Settings as Declared } from "../../config/setting.js"
import { replaceFile } from "../../cortex/writeFile.js"
import * as Live from "../../Fleet.js"
import { demoModel } from "../../Model.js"
import { Registry } from "../../Registry.js"
import * as Sessions from "../../Sessions.js"
import * as Fleet from "../knownLayer.js"
import type { Completion, Kind } from "./candidates.js"

/** For how long servers are waited for, in milliseconds: a person waits at the prompt. */
const timeout = 700
const grace = 200

/** For how long the models of the last time are enough, in milliseconds. */
const fresh = 30_000

/** The models that servers had when they were asked last. */
const Kept = Schema.parseJson(
  Schema.Struct({
    askedAt: Schema.Number,
    /** The servers that were configured then. */
    servers: Schema.Array(Schema.String),
    /** Each with the server that has it. */
    models: Schema.Array(Schema.Tuple(Schema.String, Schema.String))
  })
)

const keptFile = Effect.gen(function* () {
  const path = yield* Path.Path
  return path.join(path.dirname(yield* ConfigFile.cacheFolder), "completions.json")
})

const readKept = Effect.gen(function* () {
  const fs = yield* FileSystem.FileSystem
  return yield* Schema.decodeUnknown(Kept)(yield* fs.readFileString(yield* keptFile))
}).pipe(Effect.option, Effect.map(Option.getOrUndefined))

const keep = Effect.fnUntraced(function* (kept: typeof Kept.Type) {
  yield* replaceFile(yield* keptFile, yield* Schema.encode(Kept)(kept))
}, Effect.ignore)

/** The models of the servers that answer in time, each with its server; and which those are. */
const ask = Effect.gen(function* () {
  const registry = yield* Registry
  // Read before the clock starts: that is this machine's work.
  yield* registry.families
  yield* Effect.timeoutOption(registry.servers, timeout)
  const offers = yield* Effect.timeoutOption(registry.offers, grace)
  const silent = new Set(registry.unreachable().map(({ url }) => url))
  const models = Option.getOrElse(offers, () => []).flatMap(({ hosts, model }) =>
    hosts.map(({ server }): Completion => [model, server.url])
  )
  return { models, silent }
}).pipe(Effect.provide(Fleet.layer))

/** Those that have answered calls before: they are known without asking anyone. */
const used = Effect.gen(function* () {
  const fs = yield* FileSystem.FileSystem
  const file = yield* ConfigFile.stateFile
  const saved = yield* Live.decodeSaved(yield* fs.readFileString(file), file)
  return saved.servers.flatMap(({ models, url }) => models.map(({ model }): Completion => [model, url]))
}).pipe(Effect.orElseSucceed((): ReadonlyArray<Completion> => []))

const models = Effect.gen(function* () {
  const { aliases, model, servers } = yield* Config.settings({})
  const urls = servers.map(({ url }) => url)
  const now = yield* Clock.currentTimeMillis
  const last = yield* readKept
  const kept = last !== undefined && last.servers.join() === urls.join() ? last : undefined
  const isFresh = kept !== undefined && now - kept.askedAt >= 0 && now - kept.askedAt < fresh
  let known = kept?.models ?? []
  if (!isFresh) {
    const { models, silent } = yield* ask
    // A silent server may still have what it had.
    known = [...models, ...(kept?.models ?? (yield* used)).filter(([, url]) => silent.has(url))]
    yield* keep({ askedAt: now, servers: urls, models: known })
  }
  return [
    ...known,
    ...[...aliases].map(([name, chain]): Completion => [name, `stands for ${chain.join(", ")}`]),
    ["auto", "the one that fits best"] as const,
    [demoModel, "the built-in model"] as const,
    ...(model === "auto" ? [] : [[model, "the default"] as const])
  ]
})

const servers = Effect.map(Config.settings({}), ({ servers }) =>
  servers.map(({ organization, url }): Completion => [url, organization ?? ""])
)

const sessions = Effect.map(Sessions.list({ limit: 50 }), (all) =>
  all.map(({ id, opening }): Completion => [id, opening ?? ""])
).pipe(Effect.provide(Fleet.layer))

const namesOf = (settings: Declared, prefix: string): ReadonlyArray<Completion> =>
  Object.entries(settings).flatMap(([name, { file }]) => (file === false ? [] : [[`${prefix}${name}`, ""] as const]))

/** The values of a kind. What cannot be read has none: there is nowhere to complain. */
export const valuesOf = (kind: Exclude<Kind, "files">) => {
  const none = (): ReadonlyArray<Completion> => []
  switch (kind) {
    case "models":
      return Effect.catchAll(models, () => Effect.sync(none))
    case "servers":
      return Effect.catchAll(servers, () => Effect.sync(none))
    case "sessions":
      return Effect.catchAll(sessions, () => Effect.sync(none))
    case "settings":
      return Effect.succeed([...namesOf(fleet as Declared, ""), ...namesOf(gateway as Declared, "gateway.")])
  }
}
