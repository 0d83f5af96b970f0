/**
 * Arguments of tool calls: a model may write anything, which is no fault of its server.
 *
 * @internal
 */
import type { ToolCall } from "../Message.js"
import { isObject } from "./isObject.js"

/** @internal */
export type Arguments = Pick<ToolCall, "arguments" | "rawArguments">

/** A number that JavaScript may not hold: an id of 64 bits would be another one. */
const longNumber = /\d{16}/

/** What such arguments were read from. */
const exact = new WeakMap<object, string>()

/** Models may nest JSON in JSON strings. */
const maxNesting = 3

/**
 * Parses arguments, from the text of an OpenAI-compatible server or the value of an Ollama server. Unambiguous cases
 * are repaired: absent, `null` and blank mean no arguments, and an object inside a JSON string is that object. Anything
 * else that is not an object is kept as its text.
 *
 * @internal
 */
export const read = (given: unknown): Arguments => {
  let value = given
  let written: string | undefined
  for (let nesting = 0; nesting <= maxNesting; nesting++) {
    if (value === undefined || value === null) return { arguments: {} }
    if (isObject(value)) {
      if (written !== undefined && longNumber.test(written)) exact.set(value, written)
      return { arguments: value }
    }
    if (typeof value !== "string") break
    written = value
    if (value.trim() === "") return { arguments: {} }
    try {
      value = JSON.parse(value)
    } catch {
      break
    }
  }
  return invalid(typeof given === "string" ? given : (JSON.stringify(given) ?? ""))
}

/**
 * Arguments that are not a JSON object.
 *
 * @internal
 */
export const invalid = (text: string): Arguments => ({ arguments: {}, rawArguments: text })

/**
 * The arguments as text: that of the model where it has numbers that JavaScript may not hold.
 *
 * @internal
 */
export const text = (call: Arguments): string =>
  call.rawArguments ?? exact.get(call.arguments) ?? JSON.stringify(call.arguments)

/**
 * The same, as the text of an object: see `object`.
 *
 * @internal
 */
export const objectText = (call: Arguments): string =>
  call.rawArguments === undefined ? text(call) : JSON.stringify(object(call))

/**
 * The arguments as an object: any other text is wrapped in `INVALID_JSON`, as in Anthropic's guide.
 *
 * @internal
 */
export const object = (call: Arguments): { readonly [key: string]: unknown } =>
  call.rawArguments === undefined ? call.arguments : { INVALID_JSON: call.rawArguments }

/**
 * Whether the text that has come so far is a whole object: nothing but white space can follow.
 *
 * @internal
 */
export const isWhole = (text: string): boolean => {
  if (!text.trimEnd().endsWith("}")) return false
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}
