/** Runs `aicortex top`. */
import { randomBytes } from "node:crypto"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { isKey, keyForm } from "../../config/gatewaySettings.js"
import { environment } from "../../cortex/environment.js"
import { CommandFailed, UsageError } from "../errors.js"
import { gatewayUrl, isVariableName, ownGateway } from "../gatewayAddress.js"
import * as Output from "../output.js"
import { Client, type GatewayAddress, GatewayError } from "./client.js"
import { snapshot } from "./snapshot.js"
import { TopState } from "./state.js"
import * as Text from "./text.js"

/** The parsed flags. */
export interface Flags {
  readonly url: string | undefined
  readonly key: string | undefined
  readonly keyEnv: string | undefined
  readonly noGateway: boolean
  readonly once: boolean
  /** In milliseconds. */
  readonly interval: number | undefined
  readonly json: boolean
}

/** How often the screen is drawn, in milliseconds. */
const defaultInterval = 1_000
const [minInterval, maxInterval] = [100, 3_600_000]

const usage = (message: string) => new UsageError({ message, command: ["top"] })

const check = Effect.fnUntraced(function* ({ interval, key, keyEnv, noGateway, url }: Flags) {
  if (key !== undefined && keyEnv !== undefined) return yield* usage("--key and --key-env: give one of them")
  if (key !== undefined && !isKey(key)) return yield* usage(`--key ${keyForm}`)
  if (keyEnv !== undefined && !isVariableName(keyEnv)) {
    return yield* usage("--key-env must be the name of an environment variable")
  }
  if (noGateway && (url !== undefined || key !== undefined || keyEnv !== undefined)) {
    return yield* usage("--no-gateway: without a gateway there is neither an address nor a key")
  }
  if (interval !== undefined && (interval < minInterval || interval > maxInterval)) {
    return yield* usage(`--interval must be ${minInterval / 1_000} to ${maxInterval / 1_000} seconds`)
  }
})

/** The gateway that was named, or the own one with its own key. */
const placeOf = Effect.fnUntraced(function* ({ key, keyEnv, url }: Flags) {
  const given = keyEnv === undefined ? key : environment(keyEnv)
  if (keyEnv !== undefined && (given === undefined || !isKey(given))) {
    return yield* usage(`--key-env: the variable ${keyEnv} ${given === undefined ? "is not set" : keyForm}`)
  }
  if (url !== undefined) {
    const address = yield* gatewayUrl(url).pipe(Effect.mapError((reason) => usage(`URL: ${reason}`)))
    return { url: address, key: given } satisfies GatewayAddress
  }
  const own = yield* ownGateway
  return { url: own.url, key: given ?? own.key } satisfies GatewayAddress
})

/** A private gateway of this process: it provides the state of the configured servers. */
const ownFleet = Effect.gen(function* () {
  const [Gateway, LocalServers] = yield* Effect.promise(() =>
    Promise.all([import("../../Gateway.js"), import("../../supervisor/feed.js")])
  )
  const key = randomBytes(24).toString("base64url")
  const { url } = yield* Gateway.serve({
    gateway: {
      host: "127.0.0.1",
      port: 0,
      keys: [{ name: "top", key }],
      exposeServers: true,
      log: "off",
      localModels: false
    },
    servers: yield* LocalServers.make,
    log: () => {}
  })
  return { url, key } satisfies GatewayAddress
})

const failed = ({ key, url }: GatewayAddress, error: unknown): CommandFailed => {
  const { message, status } = error instanceof GatewayError ? error : new GatewayError(0, String(error))
  if (status === 0) {
    const advice = "`aicortex serve` starts one, and --no-gateway shows the servers of the configuration without one"
    return new CommandFailed({ message: `no gateway answers at ${url}: ${message}; ${advice}` })
  }
  if (status === 401) {
    const advice = key === undefined ? "it wants a key: give --key-env or --key" : "it does not take this key"
    return new CommandFailed({ message: `${url}: ${advice}` })
  }
  return new CommandFailed({ message: `${url}: ${message}` })
}

/** Prints what holds now; again every `interval`, if there is one. */
const print = Effect.fnUntraced(function* (client: Client, { interval, json }: Flags) {
  const reading = <A>(read: () => Promise<A>) =>
    Effect.tryPromise({ try: read, catch: (error) => failed(client.place, error) })
  for (;;) {
    if (json) {
      const [fleet, requests] = yield* reading(() => Promise.all([client.read("/fleet"), client.read("/requests")]))
      const at = yield* Clock.currentTimeMillis
      const value = { gateway: client.place.url, at, fleet, requests }
      yield* interval === undefined ? Output.writeJson(value) : Output.writeLine(`${JSON.stringify(value)}\n`)
    } else {
      const state = new TopState()
      const [fleet, requests] = yield* reading(() => Promise.all([client.fleet(), client.requests()]))
      state.setFleet(fleet)
      state.setRequests(requests)
      yield* Output.write(`${snapshot(state)}${interval === undefined ? "" : "\n"}`)
    }
    if (interval === undefined) return
    yield* Effect.sleep(interval)
  }
})

export const run = Effect.fnUntraced(function* (flags: Flags) {
  yield* check(flags)
  const place = yield* flags.noGateway ? ownFleet : placeOf(flags)
  const client = new Client(place)
  const isLive = !flags.once && !flags.json && process.stdin.isTTY === true && Output.isTerminal(process.stdout)
  if (!isLive) return yield* print(client, flags)
  // Whether it can be read is known before the screen is taken.
  yield* Effect.tryPromise({ try: () => client.fleet(), catch: (error) => failed(place, error) })
  const { live } = yield* Effect.promise(() => import("./live.js"))
  yield* live({
    client,
    title: flags.noGateway ? "the servers of the configuration" : Text.clean(place.url),
    acts: !flags.noGateway,
    interval: flags.interval ?? defaultInterval
  })
}, Effect.scoped)
