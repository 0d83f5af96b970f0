/** Runs `aicortex start`. */
import * as Effect from "effect/Effect"
import { defaultPort } from "../../supervisor/port.js"
import { run as supervise } from "../../supervisor/run.js"
import { UsageError } from "../errors.js"
import * as Output from "../output.js"
import * as Local from "./ensure.js"
import { baseUrl } from "./names.js"
import { optionsOf, type StartFlags } from "./startOptions.js"

export interface Flags extends StartFlags {
  readonly models: ReadonlyArray<string>
  readonly port: number | undefined
  readonly host: string | undefined
  readonly foreground: boolean
  readonly whileFollowed: boolean
  readonly json: boolean
}

const log = (text: string): void => {
  process.stderr.write(`aicortex: ${Output.withoutControls(text)}\n`)
}

export const inForeground = ({ host, json, port = defaultPort, whileFollowed }: Flags) =>
  supervise({ host, port, whileFollowed, log }, (url) =>
    json ? Effect.ignore(Output.writeJson({ url: `${url}/v1` })) : Effect.sync(() => log(`listening on ${url}`))
  ).pipe(
    // Another process was faster: its supervisor is as good.
    Effect.catchTag("AlreadyRunning", () => Effect.sync(() => log("the models of this machine are held already"))),
    Effect.scoped
  )

export const run = Effect.fnUntraced(function* (flags: Flags) {
  const [model] = flags.models
  if (flags.foreground) {
    if (model !== undefined) {
      return yield* new UsageError({ message: "--foreground takes no MODEL", command: ["start"] })
    }
    return yield* inForeground(flags)
  }
  if (flags.whileFollowed) {
    return yield* new UsageError({ message: "--while-followed needs --foreground", command: ["start"] })
  }
  if (model !== undefined) yield* Local.download(model)
  const status = yield* Local.supervisor(flags.port, flags.host)
  const url = baseUrl(status)
  const name = model === undefined ? undefined : yield* Local.started(model, optionsOf(flags))
  return yield* flags.json
    ? Output.writeJson({ ...(name === undefined ? {} : { model: name }), url })
    : Output.write(`${url}\n`)
})
