/**
 * The arguments of a tool call, as models write them: whatever they are, they are the model's words and no fault of its
 * server.
 *
 * @internal
 */
import type { ToolCall } from "../Message.js"

/** @internal */
export type Arguments = Pick<ToolCall, "arguments" | "rawArguments">

const isObject = (value: unknown): value is { readonly [key: string]: unknown } =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** Models write JSON into a JSON string, and that perhaps into another. */
const maxNesting = 3

/**
 * Reads them, from the text of a server of the OpenAI API or the value of an Ollama. What can be meant in one way only is
 * put right: nothing, `null` and blanks are no arguments, and an object within a JSON string is that object. Anything
 * else that is no object is kept as its text.
 *
 * @internal
 */
export const read = (given: unknown): Arguments => {
  let value = given
  for (let nesting = 0; nesting <= maxNesting; nesting++) {
    if (value === undefined || value === null) return { arguments: {} }
    if (isObject(value)) return { arguments: value }
    if (typeof value !== "string") break
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
 * Arguments that are no JSON object.
 *
 * @internal
 */
export const invalid = (text: string): Arguments => ({ arguments: {}, rawArguments: text })

/**
 * The arguments as text.
 *
 * @internal
 */
export const text = (call: Arguments): string => call.rawArguments ?? JSON.stringify(call.arguments)

/**
 * The arguments where there must be an object: text that is none stands in `INVALID_JSON`, the name that Anthropic's
 * guide has for it.
 *
 * @internal
 */
export const object = (call: Arguments): { readonly [key: string]: unknown } =>
  call.rawArguments === undefined ? call.arguments : { INVALID_JSON: call.rawArguments }
