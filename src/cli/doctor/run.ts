/** Runs `aicortex doctor`. */
import * as Effect from "effect/Effect"
import * as ConfigFile from "../../config/file.js"
import { resolvePlaces } from "../../config/gatewaySettings.js"
import * as Config from "../../config/resolve.js"
import { environment } from "../../cortex/environment.js"
import { Registry } from "../../Registry.js"
import { addServer, CommandFailed } from "../errors.js"
import * as Fleet from "../knownLayer.js"
import * as Servers from "../manage/servers.js"
import * as Output from "../output.js"
import { type Check, type Status, wrong } from "./check.js"
import { checkRegistry } from "./registry.js"
import { checkServer } from "./servers.js"
import { checkPort, checkSettings } from "./settings.js"

/** Default time for an answer, in milliseconds. */
const defaultTimeout = 60_000

const marks: { readonly [S in Status]: string } = {
  ok: Output.green("✓", process.stdout),
  warning: Output.yellow("!", process.stdout),
  wrong: Output.red("✗", process.stdout)
}

const line = ({ advice, message, status, subject }: Check): string => {
  const said = `${marks[status]} ${Output.withoutControls(`${subject}: ${message}`)}\n`
  return advice === null ? said : `${said}    ${Output.withoutControls(advice)}\n`
}

const servers = Effect.gen(function* () {
  const registry = yield* Registry
  const all = (yield* registry.servers).length === 0 ? [] : yield* Servers.servers
  return all.filter(({ own }) => own)
})

export const run = ({
  json,
  timeout = defaultTimeout
}: {
  readonly json: boolean
  readonly timeout: number | undefined
}) =>
  Effect.gen(function* () {
    const resolved = yield* Config.resolve({
      defaultStateFile: yield* ConfigFile.stateFile,
      defaultStore: yield* ConfigFile.storeFile,
      defaultSessionFolder: yield* ConfigFile.sessionFolder
    })
    const { keys: _, ...section } = resolved.content.gateway ?? {}
    const gateway = yield* resolvePlaces(
      { insecure: true },
      { variable: environment, file: section, path: resolved.file ?? "" }
    )
    const checks: Array<Check> = []
    const tell = (found: ReadonlyArray<Check>) => {
      checks.push(...found)
      return json ? Effect.void : Output.write(found.map(line).join(""))
    }
    const all = yield* servers
    if (all.length === 0) {
      yield* tell([
        wrong(
          "server",
          "servers",
          "none is known, so only the small built-in model answers",
          `Add one with ${addServer}.`
        )
      ])
    }
    // Told in their order, each as soon as it is known.
    const started = yield* Effect.forEach(all, (server) => Effect.fork(checkServer(server, timeout, resolved)))
    for (const fiber of started) yield* tell(yield* fiber)
    yield* tell(yield* checkRegistry)
    yield* tell(checkSettings(resolved, all))
    const { host, port } = gateway.settings
    if (port !== 0) yield* tell([yield* checkPort(host, port)])
    const failed = checks.filter(({ status }) => status === "wrong").length
    const warned = checks.filter(({ status }) => status === "warning").length
    if (json) yield* Output.writeJson({ ok: failed === 0, checks })
    const also = warned === 0 ? "" : `, ${warned} worth a look`
    if (failed > 0) {
      return yield* new CommandFailed({ message: `${failed} of ${checks.length} checks failed${also}` })
    }
    if (!json) yield* Output.write(`Nothing is wrong${also}.\n`)
  }).pipe(Effect.provide(Fleet.layer))
