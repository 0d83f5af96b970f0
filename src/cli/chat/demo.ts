/**
 * The built-in model answers where there is nobody else, so that the first command that anybody tries works.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { AllServersFailed, ModelNotFound, NoServers } from "../../Errors.js"
import { demoModel } from "../../Model.js"
import { Registry } from "../../Registry.js"
import { CurrentSettings } from "../../Settings.js"
import * as Output from "../output.js"

const unreachable: ReadonlySet<string> = new Set(["refused", "dns", "reset", "tls", "network", "connect-timeout"])

type Missing = AllServersFailed | ModelNotFound | NoServers

const isMissing = (error: { readonly _tag: string }): error is Missing =>
  error._tag === "AllServersFailed" || error._tag === "ModelNotFound" || error._tag === "NoServers"

/** Why nobody could be asked, or the error that tells more. */
const nobody = Effect.fnUntraced(function* (error: Missing) {
  const registry = yield* Registry
  if (error._tag === "AllServersFailed" && !error.attempts.every(({ reason }) => unreachable.has(reason))) {
    return yield* error
  }
  const servers = yield* registry.servers
  if (servers.length === 0) return "no server is known"
  if (!servers.some((server) => server.reachable)) {
    if (error._tag !== "AllServersFailed") return yield* error
    const [first] = servers
    return servers.length === 1 && first !== undefined ? `${first.url} cannot be reached` : "no server can be reached"
  }
  return yield* error._tag === "AllServersFailed" ? registry.missing(error.model) : Effect.fail(error)
})

/**
 * Asks the model that the user named, in whatever way; where they named none, the default one, or the built-in one if
 * no server is known or can be reached.
 *
 * @since 0.1.0
 * @category combinators
 */
export const orDemo = <E extends { readonly _tag: string }, R>(
  named: string | undefined,
  ask: (model: string | undefined) => Effect.Effect<void, E, R>
): Effect.Effect<void, E | Missing, R | Registry | CurrentSettings> =>
  Effect.flatMap(CurrentSettings, (settings) =>
    named !== undefined || settings.modelNamed
      ? ask(named)
      : Effect.catchAll(ask(undefined), (error): Effect.Effect<void, E | Missing, R | Registry> => {
          const failure: { readonly _tag: string } = error
          if (!isMissing(failure)) return Effect.fail(error)
          return Effect.flatMap(nobody(failure), (why) =>
            Effect.zipRight(
              Output.note(
                `${why}, so the small built-in model "${demoModel}" answers; add a server with ` +
                  "`aicortex servers add http://HOST:11434`"
              ),
              ask(demoModel)
            )
          )
        })
  )
