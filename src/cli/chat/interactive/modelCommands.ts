/** Commands about whom is asked, and how. */
import * as Effect from "effect/Effect"
import { canonical, demoModel } from "../../../Model.js"
import { Registry } from "../../../Registry.js"
import * as Sessions from "../../../Sessions.js"
import { CommandFailed } from "../../errors.js"
import { summary } from "../summary.js"
import type { Command } from "./command.js"
import { type Conversation, modelOf } from "./conversation.js"
import { listing } from "./listing.js"
import { type Parameter, parameters } from "./parameters.js"
import * as Transcript from "./transcript.js"

/** The models that the servers have, and the one that is asked. */
const choices = (conversation: Conversation) =>
  Effect.map(
    Effect.flatMap(Registry, (registry) => registry.models({ available: true })),
    (names) => (names.some(isAsked(conversation)) ? names : [modelOf(conversation), ...names])
  )

const isAsked =
  (conversation: Conversation) =>
  (name: string): boolean =>
    canonical(name) === canonical(modelOf(conversation))

/** Fails if no server has the model. */
const requireModel = (model: string) =>
  model === demoModel ? Effect.void : Effect.flatMap(Registry, (registry) => Effect.asVoid(registry.locate(model)))

export const model: Command = {
  name: "model",
  takes: "[NAME]",
  about: "Ask this model from now on; without a name, tell which one is asked and which there are.",
  complete: (words, conversation) => (words.length > 1 ? Effect.succeed([]) : choices(conversation)),
  run: Effect.fnUntraced(function* (name, conversation, print) {
    if (name !== "") {
      yield* requireModel(name)
      conversation.model = name
      return yield* print(`${name} answers from now on`)
    }
    const isCurrent = isAsked(conversation)
    yield* print((yield* choices(conversation)).map((one) => `${isCurrent(one) ? "*" : " "} ${one}`).join("\n"))
  })
}

export const system: Command = {
  name: "system",
  takes: "[TEXT]",
  about: "Set the system prompt; - removes it, and without a text it is shown.",
  run: (text, conversation, print) => {
    const { persona, system } = conversation.options
    if (text === "") return print(system ?? (persona === undefined ? "no system prompt" : `persona ${persona}`))
    conversation.options = { ...conversation.options, system: text === "-" ? undefined : text, persona: undefined }
    return print(text === "-" ? "no system prompt from now on" : "the system prompt is set")
  }
}

// =============================================================================
// Parameters
// =============================================================================

const shown = (parameter: Parameter, conversation: Conversation): string => {
  const value = parameter.get(conversation)
  return value === undefined ? "default" : Array.isArray(value) ? value.join(", ") : String(value)
}

const settingsOf = (conversation: Conversation): string =>
  listing(parameters.map((one) => [one.name, `${shown(one, conversation).padEnd(8)}  ${one.about}`]))

export const set: Command = {
  name: "set",
  takes: "[NAME [VALUE]]",
  about: "Set a parameter, `default` restores it; without a value it is shown, and without a name all are.",
  complete: (words) =>
    Effect.succeed(
      words.length < 2
        ? parameters.map(({ name }) => name)
        : words.length === 2
          ? [...(parameters.find(({ name }) => name === words[0])?.values ?? []), "default"]
          : []
    ),
  run: Effect.fnUntraced(function* (argument, conversation, print) {
    if (argument === "") return yield* print(settingsOf(conversation))
    const [, given = "", value = ""] = /^(\S+)\s*(.*)$/s.exec(argument) ?? []
    const name = given.replaceAll("_", "-").toLowerCase()
    const parameter = parameters.find((one) => one.name === name)
    if (parameter === undefined) {
      const names = parameters.map((one) => one.name).join(", ")
      return yield* new CommandFailed({ message: `there is no parameter '${given}'; there are ${names}` })
    }
    if (value !== "") {
      const wrong = parameter.set(conversation, value === "default" ? undefined : value)
      if (wrong !== undefined) return yield* new CommandFailed({ message: `${name} ${wrong}` })
    }
    yield* print(`${name}: ${shown(parameter, conversation)}`)
  })
}

// =============================================================================
// Show
// =============================================================================

const parts = ["model", "system", "settings", "conversation"]

const showModel = Effect.fnUntraced(function* (conversation: Conversation) {
  const registry = yield* Registry
  const name = modelOf(conversation)
  const info = yield* Effect.orElseSucceed(registry.modelInfo(name), () => undefined)
  const hosts = yield* Effect.orElseSucceed(registry.locate(name), () => [])
  const facts = Object.entries(info ?? {}).flatMap(([key, value]) =>
    typeof value === "string" || typeof value === "number" ? [`  ${key}: ${value}`] : []
  )
  return [`model: ${name}`, ...facts, ...hosts.map(({ server }) => `  on ${server.url}`)].join("\n")
})

export const show: Command = {
  name: "show",
  takes: "[model|system|settings|conversation]",
  about: "Show what holds in this conversation, or a part of it.",
  complete: (words) => Effect.succeed(words.length > 1 ? [] : parts),
  run: Effect.fnUntraced(function* (part, conversation, print) {
    if (part !== "" && !parts.includes(part)) {
      return yield* new CommandFailed({ message: `there is no '${part}' to show; there are ${parts.join(", ")}` })
    }
    const wants = (name: string) => part === name || (part === "" && name !== "conversation")
    if (wants("model")) yield* print(yield* showModel(conversation))
    if (wants("system")) {
      const { persona, system } = conversation.options
      yield* print(`system: ${system ?? (persona === undefined ? "none" : `persona ${persona}`)}`)
    }
    if (wants("settings")) yield* print(settingsOf(conversation))
    if (part === "") yield* print(`conversation: ${conversation.id}`)
    if (wants("conversation")) yield* print(Transcript.markdown(yield* Sessions.history(conversation.id)).trimEnd())
  })
}

export const stats: Command = {
  name: "stats",
  about: "Show what the last answer and the whole conversation cost.",
  run: Effect.fnUntraced(function* (_, conversation, print) {
    const { last, totals } = conversation
    if (last === undefined) return yield* print("no answer yet")
    yield* print(`last answer: ${summary(last.end, last.cached)}`)
    yield* print(
      `since it was begun or loaded: ${totals.answers} answers, ${totals.promptTokens} tokens of prompts, ` +
        `${totals.completionTokens} tokens of answers, ${totals.failedAttempts} failed attempts`
    )
  })
}
