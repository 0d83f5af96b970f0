/** Runs `aicortex discover`. */
import * as Prompt from "@effect/cli/Prompt"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Cortex from "../../Cortex.js"
import * as ConfigFile from "../../config/file.js"
import * as Config from "../../config/resolve.js"
import { Registry, type ServerStatus } from "../../Registry.js"
import * as Server from "../../Server.js"
import { browse, type FoundService } from "../mdns/browse.js"
import * as Output from "../output.js"
import { addServer } from "../servers/editFile.js"
import * as Table from "../table.js"

const defaultWait = 3_000

interface Flags {
  /** In milliseconds. */
  readonly wait: number | undefined
  readonly yes: boolean
  readonly interface: string | undefined
  readonly json: boolean
}

interface Listed extends FoundService {
  /** Whether the configuration names it already. */
  readonly known: boolean
}

const confirm = (message: string) => Prompt.confirm({ message, initial: false })

/** Asks them for their models, through the proxies of the settings. */
const statuses = Effect.fnUntraced(function* (found: ReadonlyArray<FoundService>) {
  const { ca, proxy = false } = yield* Config.settings({})
  const servers = found.map(({ url }) => url)
  return yield* Effect.flatMap(Registry, (registry) => registry.servers).pipe(
    Effect.provide(Cortex.layer({ servers, registry: [], configFile: false, ca, proxy }))
  )
})

const stateOf = (status: ServerStatus | undefined): string =>
  status === undefined
    ? "-"
    : status.reachable
      ? `${status.models.length} ${status.models.length === 1 ? "model" : "models"}`
      : (status.problem ?? "cannot be reached")

const table = (listed: ReadonlyArray<Listed>, asked: ReadonlyArray<ServerStatus>) =>
  Table.table(
    ["Name", "URL", "Kind", "Models"],
    listed.map(({ kind, known, name, url }) => [
      Output.withoutControls(name),
      url,
      `${kind}${known ? " (yours)" : ""}`,
      stateOf(asked.find((status) => status.url === url))
    ])
  )

export const run = Effect.fnUntraced(function* ({ interface: own, json, wait = defaultWait, yes }: Flags) {
  const isTerminal = Output.isTerminal(process.stdout) && process.stdin.isTTY === true && !json
  if (isTerminal) yield* Output.notice(`listening for ${wait / 1000} s`)
  const { servers } = yield* Config.settings({})
  const configured = new Set(servers.filter(({ implicit }) => !implicit).map(({ url }) => url))
  const found = yield* browse(wait, own === undefined ? {} : { interface: own })
  const listed = found.flatMap((one): ReadonlyArray<Listed> => {
    const server = Server.fromOptions(one.url, "the network")
    return Either.isLeft(server) ? [] : [{ ...one, url: server.right.url, known: configured.has(server.right.url) }]
  })
  const added: Array<string> = []
  let asked: ReadonlyArray<ServerStatus> = []
  const report = () =>
    Output.writeJson({
      servers: listed.map((one) => {
        const status = asked.find(({ url }) => url === one.url)
        return {
          ...one,
          version: one.version ?? null,
          models: status?.reachable === true ? status.models : null,
          problem: status?.problem ?? null
        }
      }),
      added
    })
  if (listed.length === 0) {
    return yield* json ? report() : Output.notice("no server announces itself in the local network")
  }
  if (isTerminal) yield* Output.write(table(listed, []))
  const connects =
    yes || (isTerminal && (yield* confirm("These addresses come from the network. Connect and list their models?")))
  if (!connects) {
    if (json) return yield* report()
    if (isTerminal) return
    yield* Output.write(table(listed, []))
    return yield* Output.notice("none of them was connected to; --yes connects to them, and adds those that answer")
  }
  asked = yield* statuses(listed)
  if (!json) yield* Output.write(table(listed, asked))
  const file = yield* ConfigFile.filePath
  for (const one of listed) {
    const status = asked.find(({ url }) => url === one.url)
    if (one.known || status?.reachable !== true) continue
    if (!yes && !(yield* confirm(`Add ${one.url} to ${file}?`))) continue
    if (yield* addServer(file, { url: one.url })) added.push(one.url)
  }
  if (json) return yield* report()
  for (const url of added) yield* Output.write(`Added ${url} to ${file}.\n`)
  for (const name of ["AICORTEX_SERVERS", "OLLAMA_HOST"]) {
    if (added.length > 0 && process.env[name]?.trim()) {
      yield* Output.notice(`${name} is set, and overrides the servers of the file`)
    }
  }
})
