/** A gateway in the server of an application. */
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import type { Services } from "../Cortex.js"
import type * as Declared from "../config/gateway.js"
import * as Settings from "../config/gatewaySettings.js"
import type { InvalidConfig } from "../Errors.js"
import * as GatewayContext from "./GatewayContext.js"
import * as AccessLog from "./observability/accessLog.js"
import * as Router from "./router.js"

/** Fails with `InvalidConfig` if an option is invalid. */
export const make = Effect.fnUntraced(function* (
  options: Declared.GatewayOptions
): Effect.fn.Return<{ readonly handle: ReturnType<typeof Router.make> }, InvalidConfig, Services> {
  // Where it listens is up to the application.
  const settings = yield* Settings.resolve({ ...options, insecure: true })
  const runFork = Runtime.runFork(yield* Effect.runtime<never>())
  const log = (text: string) => {
    runFork(Effect.logError(text))
  }
  const gateway = yield* GatewayContext.make(settings, GatewayContext.makeState(log, AccessLog.toStandardError()))
  const handle = Router.make({
    gateway: () => gateway,
    enter: () => {},
    leave: () => {},
    metrics: (own) => own(),
    draining: () => false
  })
  return { handle }
})
