/** Runs `aicortex serve`. */
import cluster from "node:cluster"
import { hostname } from "node:os"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Cortex from "../../Cortex.js"
import * as ConfigFile from "../../config/file.js"
import * as Settings from "../../config/gatewaySettings.js"
import * as Config from "../../config/resolve.js"
import { environment } from "../../cortex/environment.js"
import * as Gateway from "../../Gateway.js"
import { notTaken, type RunningGateway } from "../../gateway/lifecycle.js"
import * as Turns from "../../sessions/turnQueue.js"
import { refused, UsageError } from "../errors.js"
import * as Mdns from "../mdns/announce.js"
import * as Output from "../output.js"
import * as Ending from "./exitCode.js"
import * as Local from "./localModels.js"
import * as SharedState from "./sharedState.js"
import * as Workers from "./workers.js"

/** The parsed flags. */
export interface Flags {
  /** The settings of the gateway that have flags. */
  readonly gateway: Gateway.Options
  /** The settings of the fleet that have flags. */
  readonly fleet: Cortex.Options
  readonly apiKey: string | undefined
  readonly adminKey: string | undefined
  readonly config: string | undefined
  readonly proxy: string | undefined
  readonly ca: ReadonlyArray<string>
  readonly noLocal: boolean
  readonly announce: boolean
  readonly announceName: string | undefined
  readonly workers: number | undefined
  readonly dryRun: boolean
  readonly json: boolean
}

/** Messages are lines of JSON where the log of requests is: who reads standard error line by line can read each. */
let inJson = false

const log = (text: string): void => {
  const message = Output.withoutControls(text)
  const line = inJson ? JSON.stringify({ time: new Date().toISOString(), message }) : `aicortex: ${message}`
  process.stderr.write(`${line}\n`)
}

/** The form of the log, by the flag or the file. What is wrong with the file is told where its settings are used. */
const logForm = Effect.fnUntraced(
  function* ({ config, gateway }: Flags) {
    if (gateway.log !== undefined) return gateway.log
    const { named, path } = yield* ConfigFile.place(config)
    return (yield* ConfigFile.readFile(path, named)).gateway?.log
  },
  Effect.orElseSucceed(() => undefined)
)

/** A key may also come from a variable. */
const keysOf = ({ adminKey, apiKey }: Flags): Pick<Gateway.Options, "keys"> =>
  adminKey === undefined && apiKey === undefined
    ? {}
    : {
        keys: Settings.keysOf(apiKey ?? environment("AICORTEX_API_KEY"), adminKey ?? environment("AICORTEX_ADMIN_KEY"))
      }

const gatewayOptions = (flags: Flags): Gateway.Options => ({
  ...flags.gateway,
  ...keysOf(flags),
  ...(flags.noLocal ? { localModels: false } : {})
})

const cortexOptions = ({ ca, config, fleet, proxy }: Flags): Cortex.Options => ({
  ...fleet,
  ...(config === undefined ? {} : { configFile: config }),
  ...(proxy === undefined ? {} : { proxy: proxy === "off" ? false : proxy }),
  ...(ca.length === 0 ? {} : { ca })
})

const localOptions = (flags: Flags, starts: boolean): Local.LocalModelsOptions => ({
  gateway: gatewayOptions(flags),
  cortex: cortexOptions(flags),
  starts,
  log
})

const usage = (message: string) => new UsageError({ message, command: ["serve"] })

/** Validates the flags before anything is read or listened to. */
const check = Effect.fnUntraced(function* (flags: Flags) {
  const { config } = flags
  if (config !== undefined) {
    const fs = yield* FileSystem.FileSystem
    if (!(yield* Effect.orElseSucceed(fs.exists(config), () => true))) {
      return yield* usage(`--config: there is no file ${config}`)
    }
  }
  for (const [flag, key] of [
    ["--api-key", flags.apiKey],
    ["--admin-key", flags.adminKey]
  ] as const) {
    if (key !== undefined && !Settings.isKey(key)) return yield* usage(`${flag} ${Settings.keyForm}`)
  }
  yield* Either.mapLeft(Settings.resolve({ ...gatewayOptions(flags), insecure: true }), ({ field, reason }) =>
    field === "keys" ? usage(`--api-key or --admin-key: ${reason}`) : refused("serve", { field, reason })
  )
})

/** What the settings keep in a store, for a worker or the first process, with the order of turns among the workers. */
const storedBy = Effect.fnUntraced(function* (flags: Flags, order: Turns.TurnOrder) {
  const settings = yield* Config.settings(cortexOptions(flags))
  const store = yield* Cortex.openStore(settings, log)
  if (store === undefined) return undefined
  const { sessions } = settings
  const kept = sessions.inMemory === true ? undefined : yield* Cortex.makeSessionStore(sessions, store, order)
  return { store, sessions: kept }
})

/** Serves in this process until it is stopped. */
const serveInProcess = Effect.fnUntraced(function* (flags: Flags, workers: number) {
  const local = yield* Local.make(localOptions(flags, workers === 1))
  let served: RunningGateway | undefined
  const shared = workers === 1 ? undefined : yield* SharedState.forWorker(log, (order) => storedBy(flags, order))
  yield* Effect.addFinalizer(() => Effect.sync(() => served && Ending.exitWhenStopped(served.aborted() === 0)))
  const running = yield* Gateway.serve({
    gateway: gatewayOptions(flags),
    cortex: cortexOptions(flags),
    ...(local === undefined ? {} : { servers: local.servers, local: local.control }),
    log: log,
    ...(shared === undefined ? {} : { shared, metrics: Workers.metrics })
  })
  served = running
  if (workers === 1) Local.announce(local, log)
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      const onHangUp = () =>
        void Effect.runPromiseExit(running.reload).then((exit) =>
          log(
            Exit.isSuccess(exit)
              ? "reloaded the settings"
              : notTaken(
                  Cause.prettyErrors(exit.cause)
                    .map(({ message }) => message)
                    .join("; ")
                )
          )
        )
      process.on("SIGHUP", onHangUp)
      return onHangUp
    }),
    (onHangUp) => Effect.sync(() => process.off("SIGHUP", onHangUp))
  )
  return running
})

const tell = (flags: Flags, url: string) =>
  flags.json ? Output.writeJson({ url }) : Effect.sync(() => log(`listening on ${url}  (docs: ${url}/docs)`))

/** Tells where it listens, and announces it in the local network where that is wanted. */
const announce = Effect.fnUntraced(function* (flags: Flags, url: string) {
  yield* tell(flags, url)
  if (!flags.announce && flags.announceName === undefined) return
  const { hostname: host, port } = new URL(url)
  if (Mdns.isLoopback(host)) {
    log("it is not announced: only this machine can reach it. --host 0.0.0.0 lets others")
    return
  }
  const name = flags.announceName ?? `aicortex on ${hostname()}`
  yield* Mdns.announce({ name, host, port: Number(port) }).pipe(
    Effect.tap(() => Effect.sync(() => log(`announced in the local network as ${name}`))),
    // It serves all the same.
    Effect.catchAll(({ message }) => Effect.sync(() => log(`it is not announced: ${message}`)))
  )
})

export const run = Effect.fnUntraced(function* (given: Flags) {
  const [defaultStore, defaultSessionFolder] = yield* Effect.all([ConfigFile.storeFile, ConfigFile.sessionFolder])
  const flags: Flags = { ...given, fleet: { ...given.fleet, defaultStore, defaultSessionFolder } }
  const workers = flags.workers ?? 1
  if (flags.dryRun) {
    const { dryRun } = yield* Effect.promise(() => import("./dryRun.js"))
    return yield* dryRun({
      check: check(flags),
      gateway: gatewayOptions(flags),
      cortex: cortexOptions(flags),
      workers,
      announced: flags.announce || flags.announceName !== undefined,
      json: flags.json
    })
  }
  yield* check(flags)
  inJson = (yield* logForm(flags)) === "json"
  if (workers === 1) {
    const { url } = yield* serveInProcess(flags, 1)
    yield* announce(flags, url)
    return yield* Effect.never
  }
  if (cluster.isPrimary) {
    const { sessions } = yield* Config.settings(cortexOptions(flags))
    // Workers follow the supervisor that this process keeps.
    const local = yield* Local.make(localOptions(flags, true))
    // It orders the turns; what is in a store is opened by the workers.
    const order = Turns.orderOf(Turns.make(Date.now))
    const stored = yield* storedBy(flags, order)
    const kept = stored?.sessions ?? (yield* Cortex.makeSessionStore(sessions))
    const url = yield* Workers.start(workers, log, kept, order)
    Local.announce(local, log)
    yield* announce(flags, url)
    return yield* Effect.never
  }
  const exit = yield* Effect.exit(serveInProcess(flags, workers))
  if (Exit.isFailure(exit)) {
    yield* Workers.failed(exit.cause)
    // The first process ends this one, and reports why.
    return yield* Effect.never
  }
  yield* Workers.ready(exit.value.url, exit.value.metricsText)
  return yield* Effect.never
}, Effect.scoped)
