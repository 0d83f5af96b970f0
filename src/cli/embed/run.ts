/** Runs `aicortex embed`. */
import type * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Embeddings from "../../Embeddings.js"
import { CommandFailed, refused, UsageError } from "../errors.js"
import * as Fleet from "../fleetLayer.js"
import * as Output from "../output.js"
import * as Stdin from "../stdin.js"
import type { config } from "./flags.js"

const wrong = (message: string) => new UsageError({ message, command: ["embed"] })

const textsOf = Effect.fnUntraced(function* (words: ReadonlyArray<string>, lines: boolean) {
  const named = words.length === 1 && words[0] === "-"
  if (words.length > 0 && !named) {
    if (lines) return yield* wrong("--lines reads standard input: leave out the texts, or the flag")
    const empty = words.indexOf("")
    if (empty !== -1) return yield* wrong(`text ${empty + 1} of ${words.length} is empty`)
    return words
  }
  const text = yield* named ? Stdin.all : Stdin.piped
  if (text === undefined || text === "") return yield* wrong("there is no text: give one, or pipe it in")
  if (!lines) return [text]
  const texts = text.split(/\r?\n/)
  const empty = texts.indexOf("")
  if (empty === -1) return texts
  return yield* new CommandFailed({
    message: `line ${empty + 1} of standard input is empty: there is no vector of nothing`
  })
})

export const run = ({ json, lines, model, texts, ...options }: Command.Command.ParseConfig<typeof config>) =>
  Effect.gen(function* () {
    if (model === undefined) return yield* wrong("--model must name a model that makes embeddings")
    const input = yield* textsOf(texts, lines)
    const embedded = yield* Effect.provide(Embeddings.embed(input, { model, ...options }), Fleet.layer).pipe(
      Effect.catchTag("InvalidRequest", (error) =>
        Effect.fail(error.server === undefined && error.field in options ? refused("embed", error) : error)
      )
    )
    if (json) yield* Output.writeJson(embedded)
    else yield* Output.write(embedded.embeddings.map((vector) => `${JSON.stringify(vector)}\n`).join(""))
  })
