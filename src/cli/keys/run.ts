/** Runs `aicortex keys`. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as ApiKeys from "../../gateway/keys/ApiKeys.js"
import type { NewKey } from "../../gateway/keys/keyPolicy.js"
import { viewOf } from "../../gateway/protocols/aicortex/keys.js"
import { CommandFailed, UsageError } from "../errors.js"
import * as Output from "../output.js"
import { type StoreFlags, withStore } from "../storeLayer.js"
import * as Table from "../table.js"

type JsonFlag = { readonly json: boolean }
type One = StoreFlags & JsonFlag & { readonly named: string }

/** The flags that set a field of a key, where they have other names. */
const flags: { readonly [field: string]: string } = {
  name: "NAME",
  models: "--allow",
  concurrency: "--max-concurrent",
  expiresIn: "--expires",
  requestsPerMinute: "--requests-per-minute",
  tokensPerMinute: "--tokens-per-minute",
  tokensPerDay: "--tokens-per-day",
  tokensPerWeek: "--tokens-per-week",
  tokensPerMonth: "--tokens-per-month"
}

/** Runs this over the keys of the store. */
const over = <A, E, R>(
  given: StoreFlags,
  command: string,
  use: (keys: ApiKeys.ApiKeys) => Effect.Effect<A, E | ApiKeys.KeyRefused, R>
) =>
  withStore(given, ["keys", command], (store) => use(ApiKeys.make(store)), command !== "create").pipe(
    Effect.catchIf(
      (error): error is ApiKeys.KeyRefused => error instanceof ApiKeys.KeyRefused,
      ({ code, field, reason }) =>
        Effect.fail(
          code === "invalid_key_field"
            ? new UsageError({ message: `${flags[field] ?? `--${field}`} ${reason}`, command: ["keys", command] })
            : new CommandFailed({ message: reason })
        )
    )
  )

const time = (milliseconds: number | undefined, otherwise: string): string =>
  milliseconds === undefined ? otherwise : new Date(milliseconds).toISOString().replace(/\.\d+Z$/, "Z")

const limitsOf = ({
  concurrency,
  requestsPerMinute,
  tokensPerDay,
  tokensPerMinute,
  tokensPerMonth,
  tokensPerWeek
}: ApiKeys.ApiKey): ReadonlyArray<string> => [
  ...(requestsPerMinute === undefined ? [] : [`${requestsPerMinute} requests/min`]),
  ...(tokensPerMinute === undefined ? [] : [`${tokensPerMinute} tokens/min`]),
  ...(concurrency === undefined ? [] : [`${concurrency} at once`]),
  ...(tokensPerDay === undefined ? [] : [`${tokensPerDay} tokens/day`]),
  ...(tokensPerWeek === undefined ? [] : [`${tokensPerWeek} tokens/week`]),
  ...(tokensPerMonth === undefined ? [] : [`${tokensPerMonth} tokens/month`])
]

const listOf = (parts: ReadonlyArray<string>, otherwise: string): string =>
  parts.length === 0 ? otherwise : parts.join(", ")

/** The key alone on standard output, so that a script can take it. */
const tell = ({ key, secret }: ApiKeys.CreatedKey, json: boolean) =>
  Effect.flatMap(Clock.currentTimeMillis, (now) =>
    json
      ? Output.writeJson({ ...viewOf(key, now), key: Redacted.value(secret) })
      : Effect.zipRight(
          Output.notice(`the API key '${key.name}' (${key.id}) is shown this once: keep it safe`),
          Output.write(`${Redacted.value(secret)}\n`)
        )
  )

export const create = ({
  batch,
  fleet,
  json,
  ...given
}: StoreFlags & JsonFlag & Omit<NewKey, "priority"> & { readonly batch: boolean }) =>
  over({ fleet }, "create", (keys) =>
    Effect.flatMap(keys.create({ ...given, priority: batch ? "batch" : undefined }), (created) => tell(created, json))
  )

export const list = ({ all, fleet, json }: StoreFlags & JsonFlag & { readonly all: boolean }) =>
  over({ fleet }, "list", (keys) =>
    Effect.gen(function* () {
      const found = yield* keys.list({ all })
      const now = yield* Clock.currentTimeMillis
      if (json) return yield* Output.writeJson(found.map((key) => viewOf(key, now)))
      if (found.length === 0)
        return yield* Output.notice("there is no API key; make one with `aicortex keys create NAME`")
      const rows = found.map((key) => [
        key.id,
        key.name,
        key.role,
        ApiKeys.stateOf(key, now),
        listOf(key.models ?? [], "all"),
        listOf(limitsOf(key), "-"),
        time(key.expiresAt, "never"),
        key.note ?? ""
      ])
      yield* Output.write(
        Table.table(["ID", "Name", "Role", "State", "Models", "Limits", "Expires", "Note"], rows, "Note")
      )
    })
  )

const block = (key: ApiKeys.ApiKey, now: number): string =>
  Table.block([
    ["ID", key.id],
    ["Name", key.name],
    ["State", ApiKeys.stateOf(key, now)],
    ["Role", key.role],
    ["Models", listOf(key.models ?? [], "all")],
    ["Limits", listOf(limitsOf(key), "none")],
    ["Servers", key.private === true ? "local only" : "all"],
    ["Priority", key.priority ?? "interactive"],
    ["Created", time(key.createdAt, "-")],
    ["Expires", time(key.expiresAt, "never")],
    ["Rotated", time(key.rotatedAt, "never")],
    ["Key before valid until", time(key.previousUntil, "-")],
    ["Revoked", time(key.revokedAt, "no")],
    ["Note", key.note ?? "-"]
  ])

const showKey = (key: ApiKeys.ApiKey, json: boolean) =>
  Effect.flatMap(Clock.currentTimeMillis, (now) =>
    json ? Output.writeJson(viewOf(key, now)) : Output.write(block(key, now))
  )

export const show = ({ fleet, json, named }: One) =>
  over({ fleet }, "show", (keys) => Effect.flatMap(keys.show(named), (key) => showKey(key, json)))

export const revoke = ({ fleet, json, named }: One) =>
  over({ fleet }, "revoke", (keys) =>
    Effect.flatMap(keys.revoke(named), (key) =>
      json ? showKey(key, json) : Output.notice(`the API key '${key.name}' (${key.id}) is revoked`)
    )
  )

export const rotate = ({ fleet, grace = 0, json, named }: One & { readonly grace: number | undefined }) =>
  over({ fleet }, "rotate", (keys) => Effect.flatMap(keys.rotate(named, grace), (created) => tell(created, json)))
