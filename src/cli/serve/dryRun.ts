/** `aicortex serve --dry-run`: what would be served. Nothing is listened to, started, opened or sent. */

import * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import type * as Cortex from "../../Cortex.js"
import * as Settings from "../../config/gatewaySettings.js"
import * as Config from "../../config/resolve.js"
import { environment } from "../../cortex/environment.js"
import * as LocalStore from "../../cortex/localStore.js"
import type * as Gateway from "../../Gateway.js"
import { ModelStore } from "../../ModelStore.js"
import { parse } from "../../store/address.js"
import * as ConfigRun from "../config/run.js"
import { CommandFailed, type UsageError } from "../errors.js"
import * as Mdns from "../mdns/announce.js"
import * as Output from "../output.js"
import * as Table from "../table.js"

/** What would be served. */
export interface DryRunInput {
  /** What is checked of the flags before anything is read. */
  readonly check: Effect.Effect<void, UsageError, FileSystem.FileSystem>
  readonly gateway: Gateway.Options
  readonly cortex: Cortex.Options
  readonly workers: number
  /** Whether it is to be announced in the local network. */
  readonly announced: boolean
  readonly json: boolean
}

interface Row {
  readonly name: string
  readonly value: unknown
  readonly lines: ReadonlyArray<string>
  readonly origin: string
}

/** A setting, with the flag that it was given by where it was. */
const rowOf =
  (prefix: string) =>
  ({ lines, name, origin, setting, value }: ConfigRun.Shown): Row => {
    const flag = name === "keys" ? "--api-key" : `--${setting.flag?.name ?? name}`
    return { name: `${prefix}${name}`, value, lines, origin: origin.startsWith("the options") ? flag : origin }
  }

const addressOf = ({ host, port }: Settings.Settings): string =>
  `http://${host.includes(":") ? `[${host}]` : host}:${port === 0 ? "PORT" : port}`

/** The names of the models of this machine. */
const localModels = (configFile: string | false | undefined) =>
  Effect.gen(function* () {
    const store = Context.get(yield* Layer.build(LocalStore.layer(undefined, configFile)), ModelStore)
    const all = yield* store.list
    return all.flatMap(({ name, problem }) => (problem === undefined ? [name] : []))
  }).pipe(Effect.scoped)

/** Whether a store is a file that would be made. */
const isMissing = Effect.fnUntraced(function* (store: Redacted.Redacted) {
  const fs = yield* FileSystem.FileSystem
  const address = Either.getOrUndefined(parse(store))
  return address?.kind === "sqlite" && !(yield* Effect.orElseSucceed(fs.exists(address.path), () => true))
})

const inspect = Effect.fnUntraced(function* ({ announced, check, cortex, gateway, workers }: DryRunInput) {
  const fs = yield* FileSystem.FileSystem
  const refused: Array<string> = []
  const notes: Array<string> = []
  const checked = yield* Effect.either(check)
  if (Either.isLeft(checked)) refused.push(checked.left.message)
  const fleet = yield* Effect.either(Config.resolve(cortex))
  if (Either.isLeft(fleet)) {
    if (Either.isRight(checked)) refused.push(fleet.left.message)
    return { refused, notes, rows: [] }
  }
  const { content, file = "", settings } = fleet.right
  // A file that is not there has no keys.
  const stored = settings.store !== undefined && !(yield* isMissing(settings.store))
  const from = { variable: environment, file: content.gateway ?? {}, path: file, hasStoredKeys: stored }
  const resolved = Settings.resolve(gateway, from)
  if (Either.isLeft(resolved) && Either.isRight(checked)) refused.push(resolved.left.message)
  const fleetRows = ConfigRun.fleetRows(fleet.right).map(rowOf(""))
  // What one setting is refused for does not hide the others.
  const shown = yield* Effect.either(
    ConfigRun.gatewayRows(fleet.right, Either.isRight(resolved) ? gateway : { ...gateway, insecure: true })
  )
  const gatewayRows = Either.isRight(shown) ? shown.right.map(rowOf("gateway.")) : []
  const rows = [...fleetRows, ...gatewayRows]
  const exists = yield* Effect.orElseSucceed(fs.exists(file), () => false)
  const base = { refused, notes, rows, file: file === "" ? null : file, exists }
  if (Either.isLeft(resolved)) return base

  const { aliases, defaultModel, host, keys, localModels: local, port } = resolved.right
  const locals = local ? yield* Effect.either(localModels(cortex.configFile)) : Either.right([])
  if (Either.isLeft(locals)) refused.push(locals.left.message)
  if (settings.store !== undefined && !stored) notes.push("the store is a file that would be made")
  if (stored) notes.push("the store is not opened: API keys in it, and whether it can be used, are not known")
  if (keys.length === 0 && !stored) notes.push("no API key is required")
  if (announced && Mdns.isLoopback(host)) notes.push("it would not be announced: only this machine can reach it")
  if (port === 0) notes.push("PORT is one that is free when it starts")
  return {
    ...base,
    address: addressOf(resolved.right),
    workers,
    servers: rows.find(({ name }) => name === "servers")?.value,
    models: {
      default: defaultModel ?? settings.model,
      aliases: [...new Set([...aliases.keys(), ...settings.aliases.keys()])],
      local: local ? Either.getOrElse(locals, (): ReadonlyArray<string> => []) : null
    },
    keys: keys.map(({ name }) => name)
  }
})

type DryRunReport = Effect.Effect.Success<ReturnType<typeof inspect>>

const toJson = ({ rows, ...found }: DryRunReport): object => ({
  ok: found.refused.length === 0,
  ...found,
  settings: Object.fromEntries(rows.map(({ name, origin, value }) => [name, { value: value ?? null, from: origin }]))
})

const list = (names: ReadonlyArray<string>): string => (names.length === 0 ? "-" : names.join(", "))

const toText = (found: DryRunReport): string => {
  const { notes, rows } = found
  const summary: ReadonlyArray<readonly [string, string]> =
    "address" in found
      ? [
          ["address", `${found.address}${found.workers === 1 ? "" : ` (${found.workers} workers)`}`],
          ["file", found.file === null ? "-" : `${found.file}${found.exists ? "" : " (not there)"}`],
          ["servers", rows.find(({ name }) => name === "servers")?.lines.join("\n") ?? "-"],
          ["default model", found.models.default],
          ["aliases", list(found.models.aliases)],
          ["local models", found.models.local === null ? "off" : list(found.models.local)],
          ["API keys", list(found.keys)],
          ...notes.map((note) => ["note", note] as const)
        ]
      : []
  const cells = rows.flatMap(({ lines, name, origin }) =>
    lines.map((line, i) => (i === 0 ? [name, line, origin] : ["", line, ""]))
  )
  const table = cells.length === 0 ? "" : Table.table(["Setting", "Value", "From"], cells)
  return `${summary.length === 0 ? "" : `${Table.block(summary)}\n`}${table}`
}

/** Prints it, and fails with what is refused. */
export const dryRun = Effect.fnUntraced(function* (
  asked: DryRunInput
): Effect.fn.Return<void, CommandFailed | Output.WriteError, FileSystem.FileSystem | Path.Path> {
  const found = yield* inspect(asked)
  yield* asked.json ? Output.writeJson(toJson(found)) : Output.write(toText(found))
  if (found.refused.length === 0) return
  return yield* new CommandFailed({ message: `it would not be served: ${found.refused.join("; ")}` })
})
