/** Runs `aicortex requests`. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as RequestLog from "../../gateway/requestLog/table.js"
import { CommandFailed, UsageError } from "../errors.js"
import * as Output from "../output.js"
import { type StoreFlags, withStore } from "../storeLayer.js"
import * as Table from "../table.js"
import { timeOf } from "../usage/run.js"

type JsonFlag = { readonly json: boolean }

interface ListFlags extends StoreFlags, JsonFlag {
  readonly limit: number | undefined
  readonly since: string | undefined
}

const time = (at: number): string => new Date(at).toISOString().replace(/\.\d+Z$/, "Z")

export const list = Effect.fnUntraced(function* ({ json, limit = 50, since, ...flags }: ListFlags) {
  const command = ["requests", "list"]
  const now = yield* Clock.currentTimeMillis
  const from = since === undefined ? undefined : yield* timeOf("since", since, now, command)
  const found = yield* withStore(flags, command, (store) => RequestLog.list(store, { limit, since: from }), true)
  if (json) return yield* Output.writeJson(found)
  if (found.length === 0) return yield* Output.notice("no request is logged; see `serve --request-log`")
  const rows = found.map((one) => [
    one.id,
    time(one.at),
    one.key ?? "-",
    one.model ?? "-",
    one.server ?? "-",
    String(one.status),
    String(Math.round(one.duration_ms)),
    String(one.prompt_tokens + one.completion_tokens),
    one.error ?? "-"
  ])
  yield* Output.write(
    Table.table(["ID", "Time", "Key", "Model", "Server", "Status", "ms", "Tokens", "Error"], rows, "Error")
  )
})

export const show = Effect.fnUntraced(function* ({
  id,
  json,
  ...flags
}: StoreFlags & JsonFlag & { readonly id: string }) {
  const found = yield* withStore(flags, ["requests", "show"], (store) => RequestLog.show(store, id), true)
  if (found === undefined) return yield* new CommandFailed({ message: `there is no request '${id}' in the log` })
  if (json) return yield* Output.writeJson(found)
  const { request, response, ...entry } = found
  yield* Output.write(
    Table.block(
      Object.entries(entry).map(([name, value]) => [name, name === "at" ? time(found.at) : String(value ?? "-")])
    )
  )
  for (const [name, body] of Object.entries({ request, response })) {
    if (body !== null) yield* Output.write(`\n${name}:\n${Output.withoutControls(body)}\n`)
  }
})

interface PruneFlags extends StoreFlags, JsonFlag {
  readonly before: string | undefined
  readonly dryRun: boolean
}

export const prune = Effect.fnUntraced(function* ({ dryRun, json, before, ...flags }: PruneFlags) {
  const command = ["requests", "prune"]
  if (before === undefined) {
    return yield* new UsageError({ message: "--before is needed: what ended before goes", command })
  }
  const now = yield* Clock.currentTimeMillis
  const until = yield* timeOf("before", before, now, command)
  const bounds = { age: now - until, bytes: undefined }
  const gone = yield* withStore(flags, command, (store) => RequestLog.prune(store, bounds, now, dryRun), true)
  if (json) return yield* Output.writeJson({ ...gone, dryRun })
  const what = `${gone.requests} requests (${gone.bytes} bytes)`
  yield* Output.notice(dryRun ? `${what} would be removed` : `${what} are removed`)
})

export const exportAll = (flags: StoreFlags) =>
  withStore(
    flags,
    ["requests", "export"],
    (store) =>
      Effect.gen(function* () {
        let last: RequestLog.ShownRequest | undefined
        while (true) {
          const found = yield* RequestLog.page(store, last)
          yield* Output.write(found.map((one) => `${JSON.stringify(one)}\n`).join(""))
          last = found.at(-1)
          if (last === undefined) return
        }
      }),
    true
  )
