/**
 * The transport of the runtime: undici, where it is what its name says, else `fetch`.
 *
 * Bun has a package of its own in the place of undici. It has the same names, and classes that send nothing.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Settings from "../Settings.js"
import { Transport } from "../Transport.js"
import * as Fetch from "./fetch.js"
import { proxyOf } from "./proxies.js"

/** Loaded when there is something to send: that takes as long as a tenth of the library. */
const undici = Effect.promise(() => import("./undici.js"))

/** Cold models take longer to answer than the five minutes that Bun allows. */
const patient = { timeout: false }

/**
 * Direct connections only.
 *
 * @internal
 */
export const layer: Layer.Layer<Transport> = Layer.unwrapEffect(
  Effect.map(undici, (undici) =>
    undici.isGenuine
      ? undici.layer
      : Layer.succeed(
          Transport,
          Fetch.make(() => patient)
        )
  )
)

/**
 * According to the settings.
 *
 * @internal
 */
export const layerConfigured: Layer.Layer<Transport, never, Settings.CurrentSettings> = Layer.unwrapEffect(
  Effect.map(undici, (undici) =>
    undici.isGenuine
      ? undici.layerConfigured
      : Layer.effect(
          Transport,
          Effect.map(Settings.CurrentSettings, ({ ca, proxy }) =>
            Fetch.make((origin) => {
              const through = proxy === undefined ? undefined : proxyOf(proxy, origin)
              return {
                ...patient,
                ...(through === undefined ? {} : { proxy: through }),
                ...(ca === undefined || ca.length === 0 ? {} : { tls: { ca: undici.trusted(ca) } })
              }
            })
          )
        )
  )
)
