/**
 * Parses request bodies, with the error messages of each API.
 */
import { isUtf8 } from "node:buffer"
import { syntaxError } from "../protocols/ollama/jsonSyntax.js"
import * as OllamaValidation from "../protocols/ollama/validation.js"
import * as BodyFields from "./body.js"
import * as ErrorResponse from "./errorResponse.js"

const wrong = (message: string): never => {
  throw new ErrorResponse.RequestRejected(ErrorResponse.make(400, message, "invalid_json"))
}

/** The text of a body; empty bytes are the empty text. */
export const textOf = (bytes: Buffer): string => (bytes.length === 0 ? "" : bytes.toString("utf8"))

/** The text of a body, or a rejection if it is not UTF-8. */
export const checkedText = (bytes: Buffer): string =>
  isUtf8(bytes) ? textOf(bytes) : wrong("The body is not valid UTF-8.")

/** The JSON object of a body, or a rejection. */
export const parse = (text: string): BodyFields.Fields => {
  if (text === "") wrong("The body is empty; it must be a JSON object.")
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    const reason = error instanceof Error ? error.message.replace(/,? ?"[\s\S]*$/, "").slice(0, 100) : ""
    wrong(`The body is not JSON: ${reason}`)
  }
  return BodyFields.isObject(value) ? value : wrong("The body must be a JSON object.")
}

/** The same with Ollama's error messages; `type` is the name of the body's type in Go. */
export const parseOllama = (text: string, type: string): BodyFields.Fields => {
  if (text === "") return wrong("missing request body")
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return wrong(syntaxError(text))
  }
  return BodyFields.isObject(value) ? value : wrong(OllamaValidation.notAnObject(type, value))
}
