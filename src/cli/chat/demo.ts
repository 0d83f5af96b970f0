/** Falls back to the built-in model if there is no other, so that the first command works. */
import * as Effect from "effect/Effect"
import {
  type AllServersFailed,
  EngineUnavailable,
  InvalidRequest,
  type ModelNotFound,
  type NoServers
} from "../../Errors.js"
import { demoModel } from "../../Model.js"
import { Registry } from "../../Registry.js"
import { CurrentSettings } from "../../Settings.js"
import { addServer, CommandFailed, flagOf } from "../errors.js"
import * as Output from "../output.js"

const unreachable: ReadonlySet<string> = new Set(["refused", "dns", "reset", "tls", "network", "connect-timeout"])

/** Asks a model in some way; the effect runs before anything of the answer is written. */
export type AskModel<E, R> = (model: string | undefined, first: Effect.Effect<void>) => Effect.Effect<void, E, R>

type Missing = AllServersFailed | ModelNotFound | NoServers

const isMissing = (error: { readonly _tag: string }): error is Missing =>
  error._tag === "AllServersFailed" || error._tag === "ModelNotFound" || error._tag === "NoServers"

/** Why no server could be asked, or a more specific error. */
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
    return servers.length === 1 && first !== undefined
      ? `${first.url} cannot be reached (it ${first.problem ?? "does not answer"})`
      : "no server can be reached"
  }
  return yield* error._tag === "AllServersFailed" ? registry.missing(error.model) : Effect.fail(error)
})

/** Why the built-in model is not available, and what to do, as the end of a sentence. */
const unable = (error: unknown): string | undefined => {
  if (error instanceof EngineUnavailable) {
    const reason = error.reason.replace(/\s+/g, " ")
    return `cannot run because ${reason}; add a server with ${addServer}, or install the engine with \`${error.install}\``
  }
  if (error instanceof InvalidRequest) {
    const flag = error.server === undefined ? `${flagOf(error.field)}: ` : ""
    return `cannot answer: ${flag}${error.reason}; add a server with ${addServer}`
  }
  return undefined
}

/** Asks the built-in model, and says so; if it fails, one line says why. */
const instead = <E, R>(why: string, ask: AskModel<E, R>): Effect.Effect<void, E | CommandFailed, R> =>
  Effect.suspend(() => {
    const name = `the small built-in model "${demoModel}"`
    let told = false
    const tell = Effect.suspend(() => {
      if (told) return Effect.void
      told = true
      return Output.notice(`${why}, so ${name} answers; add a server with ${addServer}`)
    })
    return Effect.catchAll(ask(demoModel, tell), (error): Effect.Effect<void, E | CommandFailed> => {
      const reason = told ? undefined : unable(error)
      return reason === undefined
        ? Effect.zipRight(tell, Effect.fail(error))
        : Effect.fail(new CommandFailed({ message: `${why}, and ${name} ${reason}` }))
    })
  })

/** Asks the model that the user named; else the default one, or the built-in one if no server is known or reachable. */
export const withDemoFallback = <E extends { readonly _tag: string }, R>(
  named: string | undefined,
  ask: AskModel<E, R>
): Effect.Effect<void, E | Missing | CommandFailed, R | Registry | CurrentSettings> =>
  Effect.flatMap(CurrentSettings, (settings) =>
    named !== undefined || settings.modelNamed
      ? ask(named, Effect.void)
      : Effect.catchAll(
          ask(undefined, Effect.void),
          (error): Effect.Effect<void, E | Missing | CommandFailed, R | Registry> => {
            const failure: { readonly _tag: string } = error
            if (!isMissing(failure)) return Effect.fail(error)
            return Effect.flatMap(nobody(failure), (why) => instead(why, ask))
          }
        )
  )
