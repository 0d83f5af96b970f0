/** Runs `aicortex chat`. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { identity } from "effect/Function"
import * as Stream from "effect/Stream"
import * as Chat from "../../Chat.js"
import * as ChatRequest from "../../ChatRequest.js"
import { engineOf } from "../../chat/capability.js"
import { checkCall } from "../../chat/check.js"
import type { Execution } from "../../chat/execution.js"
import { toStream } from "../../chat/toEffect.js"
import { type ChatError, NoServers } from "../../Errors.js"
import type { Result } from "../../Failover.js"
import { canonical, demoModel } from "../../Model.js"
import { ModelSelection } from "../../ModelSelection.js"
import { isAuto } from "../../modelSelection/candidate.js"
import { Registry } from "../../Registry.js"
import { CurrentSettings } from "../../Settings.js"
import * as StructuredOutput from "../../StructuredOutput.js"
import { refused, UsageError } from "../errors.js"
import * as Fleet from "../fleetLayer.js"
import * as Output from "../output.js"
import * as Stdin from "../stdin.js"
import * as Chosen from "./chosenModel.js"
import { conflictOf, isSingle } from "./flagConflicts.js"
import type { ChatFlags } from "./flags.js"
import * as Image from "./imageFile.js"
import { lastUsed } from "./interactive/conversation.js"
import type * as Interactive from "./interactive.js"
import * as Printing from "./printing.js"
import { readSchema } from "./schemaFile.js"
import * as Waiting from "./waiting.js"

const usage = (message: string): UsageError => new UsageError({ message, command: ["chat"] })

// =============================================================================
// Input
// =============================================================================

/** The prompt, or `undefined` if there is none and the user can be asked for it. */
const promptOf = Effect.fnUntraced(function* (
  words: ReadonlyArray<string>,
  { interactive, noStdin, talks }: { readonly interactive: boolean; readonly noStdin: boolean; readonly talks: boolean }
) {
  if (interactive) return undefined
  if (words.length === 0 && talks && process.stdin.isTTY === true && process.stdout.isTTY === true) return undefined
  const none = usage("there is no prompt: give one, or pipe it in")
  if (words.length === 0 || (words.length === 1 && words[0] === "-")) {
    const text = words.length === 1 ? yield* Stdin.all : noStdin ? undefined : yield* Stdin.piped
    return text === undefined || text.trim() === "" ? yield* none : text
  }
  const prompt = words.join(" ")
  if (prompt.trim() === "") return yield* none
  const more = noStdin ? undefined : yield* Stdin.withPrompt
  return more === undefined || more.trim() === "" ? prompt : `${prompt}\n\n${more}`
})

// =============================================================================
// The command
// =============================================================================

export const run = Effect.fnUntraced(function* (flags: ChatFlags) {
  const { cache, cacheTtl, interactive, json, noCache, noStdin, prompt: words, schema, verbose, ...others } = flags
  const { continue: continues, image: images, noStream, output, stream: given, ...rest } = others
  // A person who reads along need not wait for the end.
  const streaming = given || (process.stdout.isTTY === true && !noStream && output === undefined)
  const wrong = conflictOf(flags)
  if (wrong !== undefined) return yield* usage(wrong)
  const { session, ...request } = {
    ...rest,
    stop: rest.stop.length === 0 ? undefined : rest.stop,
    hedge: rest.hedge ? true : undefined,
    raw: rest.raw ? true : undefined,
    cache: noCache ? false : cacheTtl !== undefined ? { ttl: cacheTtl } : cache || undefined
  }
  yield* Either.mapLeft(ChatRequest.decodeOptions(request), ({ field, reason }) => {
    const [name = ""] = field.split(".")
    const value = Object.entries(request).find(([key]) => key === name)?.[1]
    const empty = [value].flat().includes("")
    return refused(
      "chat",
      { field: name, reason: empty ? "must not be empty" : reason },
      typeof value === "number" ? value : undefined
    )
  })
  const options: Chat.Options = { ...request, session }
  const decoder = schema !== undefined ? yield* readSchema(schema) : json ? StructuredOutput.any : undefined
  const prompt = yield* promptOf(words, { interactive, noStdin, talks: !isSingle(flags) })

  const chosen = Chosen.make()
  const format = decoder === undefined ? "text" : (decoder.jsonSchema ?? "json")

  const ask = Effect.fnUntraced(
    function* (
      prompt: Chat.Prompt,
      more: Chat.Options,
      show: Interactive.Print | undefined = streaming ? Printing.stream : undefined
    ) {
      const began = Date.now()
      const engine = engineOf(yield* Chat.Chat)
      const settings = yield* CurrentSettings
      const request = { ...options, ...more }
      const checked = yield* checkCall(prompt, request, format, settings, yield* ModelSelection)
      const named = request.model !== undefined || !isAuto(settings.model)
      const { progress, stop } = yield* Waiting.start
      const execution: Execution = {
        ...checked,
        onModel: (candidate) => {
          progress.starts(candidate.model)
          if (!named) chosen.onModel(candidate)
        }
      }
      const begun = Effect.zipRight(Effect.sync(stop), chosen.tell)
      const whole = Effect.ensuring(Effect.sync(stop))
      if (decoder !== undefined) {
        const { result, value } = yield* whole(engine.structured(execution, decoder, mustFit))
        yield* begun
        if (output === "json") return yield* Printing.printResult(result, Date.now() - began, value)
        return yield* Output.writeLine(`${JSON.stringify(value, undefined, 2)}\n`)
      }
      const print = output === "jsonl" ? Printing.streamEvents : show
      if (print !== undefined) {
        const events = Stream.mapChunks(toStream(engine.open(execution)), (chunk) => {
          for (const event of chunk) progress.event(event)
          return chunk
        })
        return yield* print(events, begun, verbose)
      }
      const result = yield* whole(engine.complete(execution, identity<Result>))
      yield* begun
      if (output === "json") return yield* Printing.printResult(result, Date.now() - began)
      return yield* Printing.print(result, verbose)
    },
    Effect.mapError(chosen.explain),
    Effect.scoped
  )

  if (prompt !== undefined) {
    const parts = yield* Effect.forEach(images, Image.read)
    const content = [{ type: "text", text: prompt } as const, ...parts.map(({ part }) => part)]
    const last = continues ? lastUsed : Effect.succeed(session)
    return yield* Effect.provide(
      Effect.flatMap(last, (session) => ask(parts.length === 0 ? prompt : [{ role: "user", content }], { session })),
      Fleet.layer
    )
  }
  const { runInteractive } = yield* Effect.promise(() => import("./interactive.js"))
  yield* Effect.provide(
    Effect.zipRight(
      requireModel(options.model),
      runInteractive({ session, continues, options, verbose, plain: Printing.stream, ask })
    ),
    Fleet.chatLayer
  )
})

/** A reply has to fit; tool calls would be lost. */
const mustFit = (result: Result): boolean | ChatError => {
  const text = Chat.textOf(result)
  return typeof text === "string" ? true : text
}

/** Fails before the first question where no server can answer any. */
const requireModel = Effect.fnUntraced(function* (named: string | undefined) {
  const settings = yield* CurrentSettings
  const selection = yield* ModelSelection
  const registry = yield* Registry
  const model = named ?? settings.model
  const candidates = yield* selection.select(model)
  if (candidates.some((one) => one.auto || canonical(one.model) === demoModel)) return
  const servers = yield* registry.servers
  if (servers.length === 0 || servers.some(({ reachable }) => reachable)) return
  return yield* new NoServers({
    model,
    servers: servers.map(({ url }) => url),
    available: [],
    unreachable: servers.map(({ problem = "has not answered", url }) => ({ url, reason: problem }))
  })
})
