/** Runs `aicortex registry check`, `fetch`, `resolve`, `apply` and `refresh`. */
import * as HttpClient from "@effect/platform/HttpClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import * as Cortex from "../../Cortex.js"
import { isRecord } from "../../registry/modelRecord.js"
import * as Ask from "../../registry/pipeline/ask.js"
import * as Inventory from "../../registry/pipeline/inventory.js"
import type { PresentFile } from "../../registry/pipeline/plan.js"
import type { Rejected } from "../../registry/pipeline/record.js"
import * as Resolve from "../../registry/pipeline/resolve.js"
import type { Server } from "../../Server.js"
import { CurrentSettings } from "../../Settings.js"
import * as ByRuntime from "../../transport/byRuntime.js"
import * as TransportClient from "../../transport/httpClient.js"
import { CommandFailed } from "../errors.js"
import * as Output from "../output.js"
import { type ApplyFlags, applyRecords, counted, now } from "./apply.js"
import * as Folder from "./folder.js"
import { Progress } from "./progress.js"
import * as Sources from "./sources.js"

/** The settings, and what requests are sent with. */
export const services = Layer.suspend(() => {
  const settings = Cortex.layerSettings()
  return Layer.provideMerge(Layer.provide(TransportClient.layer, ByRuntime.layerConfigured), settings)
})

/** How servers are asked. */
interface AskFlags {
  readonly workers: number | undefined
  /** In milliseconds. */
  readonly timeout: number | undefined
}

/** What the reference waits for, and how many it asks at once. */
const checkDefaults = { workers: 20, timeout: 5_000 }
const fetchDefaults = { workers: 10, timeout: 10_000 }

const ask = (servers: ReadonlyArray<Server>, given: AskFlags, defaults: typeof checkDefaults) =>
  Effect.gen(function* () {
    if (servers.length === 0) return yield* new CommandFailed({ message: "no server is named to be asked" })
    const client = HttpClient.withTracerDisabledWhen(yield* HttpClient.HttpClient, () => true)
    const progress = new Progress(servers.length)
    return yield* Effect.ensuring(
      Ask.askAll(client, servers, {
        workers: given.workers ?? defaults.workers,
        timeout: given.timeout ?? defaults.timeout,
        progress: (done, rejected) => progress.tell(done, rejected)
      }),
      Effect.sync(() => progress.close())
    )
  })

/** What was asked, told: nothing is written where nobody answered. */
const answered = (asked: Ask.Asked, read: ReadonlyArray<Rejected>, json: boolean) =>
  Effect.gen(function* () {
    const rejected = [...read, ...asked.rejected]
    if (json) {
      const answers = asked.fetched.map(({ models, source_url: url }) => ({ url, models: models.length }))
      yield* Output.writeJson({ answered: answers, rejected })
    } else yield* Sources.tellRejected(rejected)
    if (asked.fetched.length > 0) return
    return yield* new CommandFailed({
      message: `none of ${asked.rejected.length} servers answered; nothing is written`
    })
  })

// =============================================================================
// Check, fetch, resolve
// =============================================================================

/** The folders of the settings, where no source is named. */
const sourcesOr = (command: string, given: ReadonlyArray<string>) =>
  given.length > 0 ? Effect.succeed(given) : Effect.map(Sources.registryOf(command, undefined), (folder) => [folder])

export const check = (
  flags: AskFlags & {
    readonly sources: ReadonlyArray<string>
    readonly output: string | undefined
    readonly json: boolean
  }
) =>
  Effect.gen(function* () {
    const output = flags.output ?? "valid_models.txt"
    yield* Sources.checkOutput("check", output, flags.json)
    const inventory = yield* Sources.gather(yield* sourcesOr("check", flags.sources))
    const asked = yield* ask(yield* Sources.serversOf(inventory), flags, checkDefaults)
    yield* answered(asked, inventory.rejected, flags.json)
    yield* Sources.writeOutput(output, asked.fetched.map(({ source_url: url }) => `${url}\n`).join(""))
    const all = asked.fetched.length + asked.rejected.length
    yield* Output.notice(`${asked.fetched.length} of ${counted(all, "server")} answered`)
  }).pipe(Effect.provide(services))

interface StepFlags {
  readonly input: Option.Option<string>
  readonly output: string | undefined
  readonly json: boolean
}

const toJson = (value: unknown): string => `${JSON.stringify(value, undefined, 2)}\n`

export const fetch = (flags: AskFlags & StepFlags) =>
  Effect.gen(function* () {
    const output = flags.output ?? "fetched_models.json"
    yield* Sources.checkOutput("fetch", output, flags.json)
    const inventory = yield* Sources.gather([Sources.orDefault(flags.input, "valid_models.txt")])
    const asked = yield* ask(yield* Sources.serversOf(inventory), flags, fetchDefaults)
    yield* answered(asked, inventory.rejected, flags.json)
    yield* Sources.writeOutput(output, toJson(asked.fetched))
    const models = asked.fetched.reduce((sum, { models }) => sum + models.length, 0)
    yield* Output.notice(`${counted(models, "model")} of ${counted(asked.fetched.length, "server")}`)
  }).pipe(Effect.provide(services))

export const resolve = (flags: StepFlags & { readonly registry: string | undefined; readonly keepMissing: boolean }) =>
  Effect.gen(function* () {
    const output = flags.output ?? "resolved_models.json"
    yield* Sources.checkOutput("resolve", output, flags.json)
    const folder = yield* Sources.registryOf("resolve", flags.registry)
    const input = Sources.orDefault(flags.input, "fetched_models.json")
    const fetched = yield* Effect.flatMap(Sources.readInput(input), (text) => Sources.parseJson(input, text))
    if (!Array.isArray(fetched)) return yield* new CommandFailed({ message: `${input} is not a list of servers` })
    const existing = Inventory.read(yield* Sources.inFolder(folder))
    const resolved = Resolve.resolve(fetched, existing, {
      keeps: () => flags.keepMissing,
      newId: Sources.newId,
      now: (yield* now).toISOString()
    })
    const rejected = [...existing.rejected, ...resolved.rejected]
    yield* Sources.writeOutput(output, toJson(resolved.records))
    if (flags.json) yield* Output.writeJson({ records: resolved.records.length, rejected })
    else yield* Sources.tellRejected(rejected)
    yield* Output.notice(counted(resolved.records.length, "record"))
  }).pipe(Effect.provide(services))

// =============================================================================
// Apply
// =============================================================================

export const apply = (flags: ApplyFlags & { readonly input: Option.Option<string> }) =>
  Effect.gen(function* () {
    const folder = yield* Sources.registryOf("apply", flags.registry)
    const input = Sources.orDefault(flags.input, "resolved_models.json")
    const records = yield* Effect.flatMap(Sources.readInput(input), (text) => Sources.parseJson(input, text))
    const list = isRecord(records) ? records["models"] : records
    yield* applyRecords(folder, () => Effect.succeed({ records: list, rejected: [] }), flags)
  }).pipe(Effect.provide(services))

// =============================================================================
// Refresh
// =============================================================================

export const refresh = (
  flags: ApplyFlags & AskFlags & { readonly sources: ReadonlyArray<string>; readonly keepMissing: boolean }
) =>
  Effect.gen(function* () {
    const folder = yield* Sources.registryOf("refresh", flags.registry)
    const given = yield* Sources.gather(flags.sources)
    const present = yield* Folder.readFolder(folder)
    if (present === undefined && flags.sources.length === 0) {
      return yield* new CommandFailed({ message: `there is no folder ${folder}; name servers to make it of` })
    }
    const existing = Inventory.read(present === undefined ? [] : yield* Sources.inFolder(folder))
    const { servers: configured } = yield* CurrentSettings
    const urls = flags.sources.length > 0 ? [] : configured.filter(({ implicit }) => !implicit)
    const own = urls.map((server) => [server.url, { server, facts: {} }] as const)
    const servers = new Map([...own, ...existing.servers, ...given.servers])
    const asked = yield* ask(yield* Sources.serversOf({ ...existing, servers }), flags, checkDefaults)
    if (asked.fetched.length === 0 && !flags.force) {
      yield* Sources.tellRejected(asked.rejected)
      const message = `none of ${counted(servers.size, "server")} answered: ${folder} is left as it is`
      return yield* new CommandFailed({ message })
    }
    const time = (yield* now).toISOString()
    const make = (files: ReadonlyArray<PresentFile>) =>
      Effect.sync(() => {
        // Who came to the registry in the meantime was not asked.
        const latest = Inventory.read(Sources.inFiles(folder, files))
        const { records, rejected } = Resolve.resolve(asked.fetched, latest, {
          keeps: (url) => flags.keepMissing || !servers.has(url),
          newId: Sources.newId,
          now: time
        })
        return { records, rejected: [...given.rejected, ...latest.rejected, ...asked.rejected, ...rejected] }
      })
    yield* applyRecords(folder, make, flags)
  }).pipe(Effect.provide(services))
