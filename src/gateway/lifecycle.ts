/**
 * A gateway that runs: it takes new settings without dropping a stream, and stops without dropping one that ends in
 * time.
 *
 * @since 0.1.0
 */
import { watch } from "node:fs"
import { basename, dirname } from "node:path"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import * as Scope from "effect/Scope"
import type { Services } from "../Cortex.js"
import type { Settings } from "../config/gatewaySettings.js"
import type { InvalidConfig } from "../Errors.js"
import * as House from "./GatewayContext.js"
import * as Log from "./observability/accessLog.js"
import * as Figures from "./observability/fleetMetrics.js"
import * as Core from "./router.js"
import * as Listen from "./server.js"

/**
 * What a gateway is made from, read anew at each change.
 *
 * @since 0.1.0
 * @category models
 */
export interface Plan {
  readonly settings: Settings
  readonly services: Layer.Layer<Services, InvalidConfig>
}

/**
 * - `plan`: reads the settings, and says what is wrong with them
 * - `watched`: the file whose change has them read again
 * - `log`: takes what there is to tell whoever runs the gateway
 * - `common`: what it has in common with other processes; default: all is its own
 * - `accessLog`: takes the lines about requests, where the settings ask for them; default: standard error does
 * - `metrics`: puts the figures of several processes together
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  readonly plan: Effect.Effect<Plan, InvalidConfig>
  readonly watched?: string | undefined
  readonly log?: ((text: string) => void) | undefined
  readonly common?: House.Common | undefined
  readonly accessLog?: ((text: string) => void) | undefined
  readonly metrics?: ((own: () => Promise<string>) => Promise<string>) | undefined
  readonly patience?: Listen.Patience | undefined
}

/**
 * - `url`: where it listens
 * - `reload`: takes the settings as they are now; requests under way keep the old ones. Where they are wrong, the old
 *   ones stay. Host and port cannot be changed
 * - `figures`: what `/metrics` tells of this process
 * - `cut`: how many requests were cut off when it stopped, because they had not ended within `drain`
 *
 * @since 0.1.0
 * @category models
 */
export interface Running {
  readonly url: string
  readonly host: string
  readonly port: number
  readonly reload: Effect.Effect<void, InvalidConfig>
  readonly figures: () => Promise<string>
  readonly cut: () => number
}

/** A house, and how many are still in it. */
interface Lodging {
  readonly house: House.House
  readonly scope: Scope.CloseableScope
  guests: number
  retired: boolean
}

/** Editors write a file in several steps. */
const settleTime = 150

const urlOf = (host: string, port: number): string => `http://${host.includes(":") ? `[${host}]` : host}:${port}`

/**
 * Listens until the scope closes, and then so long as `drain` allows for requests under way.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function* (
  options: Options
): Effect.fn.Return<Running, InvalidConfig, Scope.Scope> {
  const log = options.log ?? (() => {})
  const accessLog = options.accessLog === undefined ? Log.toStandardError() : new Log.AccessLog(options.accessLog)
  const memory = House.memory(log, accessLog, options.common)
  const runFork = Runtime.runFork(yield* Effect.runtime<never>())
  const lodgings = new Map<House.House, Lodging>()
  let draining = false
  let cut = 0
  let empty: (() => void) | undefined

  /** A change of the settings never opens what needed one of `keys`. */
  const closed = (settings: Settings, keys: Settings["keys"]): Settings => {
    if (keys.length === 0 || settings.keys.length > 0 || settings.insecure) return settings
    const names = keys.map(({ name }) => name).join(", ")
    log(`WARNING: the settings name no API key any more. Until a restart, the old keys stay in force: ${names}`)
    return { ...settings, keys }
  }

  const build = Effect.fnUntraced(function* (keys: Settings["keys"]) {
    const { services, settings: planned } = yield* options.plan
    const settings = closed(planned, keys)
    const scope = yield* Scope.make()
    // What the services leave running in the background must end with them: it is as interruptible as what starts it.
    const context: Context.Context<Services> = yield* Effect.interruptible(Layer.buildWithScope(services, scope)).pipe(
      Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
    )
    const house = yield* Effect.provide(House.make(settings, memory), context)
    const lodging: Lodging = { house, scope, guests: 0, retired: false }
    lodgings.set(house, lodging)
    return lodging
  })

  const close = ({ house, scope }: Lodging) => {
    lodgings.delete(house)
    return Scope.close(scope, Exit.void)
  }

  let current = yield* Effect.uninterruptible(build([]))

  const handle = Core.make({
    house: () => current.house,
    enter: (house) => {
      const lodging = lodgings.get(house)
      if (lodging !== undefined) lodging.guests++
    },
    leave: (house) => {
      const lodging = lodgings.get(house)
      if (lodging !== undefined) {
        lodging.guests--
        if (lodging.retired && lodging.guests === 0) runFork(close(lodging))
      }
      if (draining && memory.metrics.inFlight === 0) empty?.()
    },
    metrics: options.metrics ?? ((own) => own()),
    draining: () => draining
  })

  const permit = yield* Effect.makeSemaphore(1)
  const reload = Effect.uninterruptible(
    Effect.map(
      Effect.suspend(() => build(current.house.settings.keys)),
      (next) => {
        const before = current
        const { host, port } = before.house.settings
        if (next.house.settings.host !== host || next.house.settings.port !== port) {
          log("host and port stay as they were until the gateway is started again")
        }
        current = next
        before.retired = true
        return before
      }
    ).pipe(Effect.flatMap((before) => (before.guests === 0 ? close(before) : Effect.void)))
  ).pipe(permit.withPermits(1))

  const { drain, host, port, timeout } = current.house.settings
  const server = Listen.create(
    handle,
    () => current.house.settings.maxBody,
    () => current.house.settings.maxConnections,
    { idleTimeout: timeout, ...options.patience }
  )

  yield* Effect.addFinalizer(() =>
    Effect.gen(function* () {
      draining = true
      server.close()
      if (memory.metrics.inFlight > 0) {
        log(`stopping: ${memory.metrics.inFlight} requests are still being answered`)
        yield* Effect.async<void>((resume) => {
          const timer = setTimeout(() => {
            cut = memory.metrics.inFlight
            log(`cut off ${cut} that had not ended after ${drain / 1000} s; --drain gives them longer`)
            resume(Effect.void)
          }, drain)
          empty = () => {
            clearTimeout(timer)
            resume(Effect.void)
          }
          if (memory.metrics.inFlight === 0) empty()
        })
      }
      // What is still under way is told that it ends here, and then the connections go.
      yield* Effect.forEach([...lodgings.values()], close, { discard: true })
      yield* Effect.yieldNow()
      yield* Effect.async<void>((resume) => {
        setImmediate(() => {
          server.closeAllConnections()
          // Requests that end with their connection are told of, too.
          setImmediate(() => resume(Effect.void))
        })
      })
      accessLog.flush()
    })
  )
  const bound = yield* Listen.listen(server, host, port)

  const { watched } = options
  if (watched !== undefined) {
    let timer: ReturnType<typeof setTimeout> | undefined
    const changed = () => {
      clearTimeout(timer)
      timer = setTimeout(() => {
        runFork(
          Effect.match(reload, {
            onFailure: (error) => log(`${error.message}. The settings stay as they were.`),
            onSuccess: () => log(`read ${watched} again`)
          })
        )
      }, settleTime)
    }
    // The folder, because editors put a new file in the old one's place.
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        try {
          const watcher = watch(dirname(watched), { persistent: false }, (_, name) => {
            if (name === basename(watched)) changed()
          })
          watcher.on("error", () => log(`${watched} can no longer be watched: send SIGHUP after a change`))
          return watcher
        } catch {
          // There is no such folder, and so no such file: nothing to watch.
          return undefined
        }
      }),
      (watcher) =>
        Effect.sync(() => {
          clearTimeout(timer)
          watcher?.close()
        })
    )
  }

  return {
    url: urlOf(host, bound),
    host,
    port: bound,
    reload,
    figures: () => Figures.text(current.house),
    cut: () => cut
  }
})
