/** Tells which model answers where the user has named none. */
import * as Effect from "effect/Effect"
import { EngineUnavailable, InvalidRequest } from "../../Errors.js"
import { demoModel } from "../../Model.js"
import type { ModelCandidate } from "../../ModelSelection.js"
import { addServer, CommandFailed, flagOf } from "../errors.js"
import * as Output from "../output.js"

const demo = `the small built-in model "${demoModel}"`

/** What is known of the model that was chosen, over all answers of a command. */
export interface ChosenModel {
  /** Told of each model that is asked. */
  readonly onModel: (candidate: ModelCandidate) => void
  /** Names it on standard error, once for each, where it was chosen. */
  readonly tell: Effect.Effect<void>
  /** The failure, or why the built-in model cannot answer and what to do, in one line. */
  readonly explain: <E>(error: E) => E | CommandFailed
}

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

export const make = (): ChosenModel => {
  let chosen: ModelCandidate | undefined
  let announced: string | undefined
  return {
    onModel: (candidate) => {
      chosen = candidate.auto ? candidate : undefined
    },
    tell: Effect.suspend(() => {
      if (chosen === undefined || chosen.model === announced) return Effect.void
      const { model, reason = "it was chosen" } = chosen
      announced = model
      return model === demoModel
        ? Output.notice(`${reason}, so ${demo} answers; add a server with ${addServer}`)
        : Output.dimNotice(`${model} answers (${reason}); name another with -m, or choose with \`aicortex use MODEL\``)
    }),
    explain: (error) => {
      if (chosen?.model !== demoModel || announced === demoModel) return error
      const why = unable(error)
      return why === undefined ? error : new CommandFailed({ message: `${chosen.reason}, and ${demo} ${why}` })
    }
  }
}
