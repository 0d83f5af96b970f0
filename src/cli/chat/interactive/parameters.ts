/** What `/set` changes: the parameters of the next questions, and how answers are shown. */
import * as Either from "effect/Either"
import type * as Chat from "../../../Chat.js"
import * as ChatRequest from "../../../ChatRequest.js"
import { strategies } from "../../callFlags.js"
import { flagOf } from "../../errors.js"
import { aboutOf } from "../../flags.js"
import { options } from "../flags.js"
import type { Conversation } from "./conversation.js"

export interface Parameter {
  /** As the flag of `aicortex chat`, where there is one. */
  readonly name: string
  readonly about: string
  /** The values, if there are few. */
  readonly values?: ReadonlyArray<string>
  readonly get: (conversation: Conversation) => unknown
  /** `undefined` restores the default. Returns what is wrong with the value. */
  readonly set: (conversation: Conversation, text: string | undefined) => string | undefined
}

type Value = number | string | boolean | undefined
type Field = keyof Chat.Options

const option = (
  name: string,
  field: Field,
  about: string,
  parse: (text: string) => Value,
  show: (value: unknown) => unknown = (value) => value,
  values?: ReadonlyArray<string>
): Parameter => ({
  name,
  about,
  ...(values === undefined ? {} : { values }),
  get: ({ options }) => show(options[field]),
  set: (conversation, text) => {
    const value = text === undefined ? undefined : parse(text)
    if (text !== undefined && value === undefined) {
      return values === undefined ? `must be a number, not '${text}'` : `must be one of ${values.join(", ")}`
    }
    const checked = ChatRequest.decodeOptions({ [field]: value })
    if (Either.isLeft(checked)) return checked.left.reason
    conversation.options = { ...conversation.options, [field]: value }
    return undefined
  }
})

const asNumber = (text: string): number | undefined => {
  const value = Number(text)
  return text.trim() !== "" && Number.isFinite(value) ? value : undefined
}

/** As the flag: so it has its range, too. */
const number = (field: (typeof ChatRequest.sampling)[number]): Parameter => {
  const flag = flagOf(field)
  return option(flag.slice(2), field, aboutOf(options[field], flag), asNumber)
}

const seconds = (name: string, field: Field, about: string): Parameter =>
  option(
    name,
    field,
    about,
    (text) => {
      const value = asNumber(text)
      return value === undefined ? undefined : value * 1000
    },
    (value) => (typeof value === "number" ? value / 1000 : undefined)
  )

const oneOf = (name: string, field: Field, about: string, values: ReadonlyArray<string>): Parameter =>
  option(
    name,
    field,
    about,
    (text) => (values.includes(text) ? (text === "on" ? true : text === "off" ? false : text) : undefined),
    (value) => (value === true ? "on" : value === false ? "off" : value),
    values
  )

const onOff = ["on", "off"]

const view = (name: "markdown" | "verbose", about: string): Parameter => ({
  name,
  about,
  values: onOff,
  get: (conversation) => (conversation.view[name] ? "on" : "off"),
  set: (conversation, text) => {
    if (text !== undefined && !onOff.includes(text)) return `must be one of ${onOff.join(", ")}`
    conversation.view[name] = text === undefined ? name === "markdown" : text === "on"
    return undefined
  }
})

const contextSize: Parameter = {
  name: "num-ctx",
  about: "How many tokens of context Ollama loads the model with.",
  get: ({ options }) => options.options?.["num_ctx"],
  set: (conversation, text) => {
    const value = text === undefined ? undefined : Number(text)
    if (value !== undefined && !(Number.isSafeInteger(value) && value > 0)) {
      return `must be a whole number from 1, not '${text}'`
    }
    const { num_ctx: _, ...others } = conversation.options.options ?? {}
    const options = value === undefined ? others : { ...others, num_ctx: value }
    conversation.options = {
      ...conversation.options,
      options: Object.keys(options).length === 0 ? undefined : options
    }
    return undefined
  }
}

export const parameters: ReadonlyArray<Parameter> = [
  ...ChatRequest.sampling.map(number),
  option("stop", "stop", "Stop before this text.", (text) => text),
  oneOf("think", "think", "Whether, or how hard, a reasoning model thinks.", [
    ...onOff,
    ...ChatRequest.ThinkLevel.literals
  ]),
  contextSize,
  option("keep-alive", "keepAlive", "How long Ollama keeps the model loaded.", (text) => asNumber(text) ?? text),
  oneOf(
    "routing",
    "routing",
    "The routing strategy.",
    strategies.map(([name]) => name)
  ),
  seconds("timeout", "timeout", "Seconds that a server may be silent."),
  seconds("deadline", "deadline", "Seconds that an answer may take, over all servers."),
  view("markdown", "Whether answers are formatted."),
  view("verbose", "Whether thinking, the server and the speed are shown.")
]
