/**
 * The facts about a model in one record of a registry file or of a server's list.
 */
import type * as Types from "effect/Types"
import { isObject } from "../internal/isObject.js"
import * as Model from "../Model.js"

/**
 * A JSON object.
 *
 * @since 0.5.0
 * @category models
 */
export interface JsonRecord {
  readonly [key: string]: unknown
}

/** Whether a field holds nothing. */
export const isAbsent = (value: unknown): boolean => value === undefined || value === null || value === ""

/** Reports what is unusable in a record. */
export type Warn = (field: string | undefined, reason: string) => void

/** A finite number, possibly written as a string. */
const toNumber = (value: unknown): number | undefined => {
  const number = typeof value === "string" && value.trim() !== "" ? Number(value) : value
  return typeof number === "number" && Number.isFinite(number) ? number : undefined
}

/** The number of a field, if it holds one. */
export const numberAt = (record: JsonRecord, field: string, warn: Warn): number | undefined => {
  const value = record[field]
  if (isAbsent(value)) return undefined
  const number = toNumber(value)
  if (number === undefined) warn(field, `${show(value)} is not a number`)
  return number
}

/** The first of these fields that holds text. */
export const textAt = (record: JsonRecord, ...fields: ReadonlyArray<string>): string | undefined => {
  for (const field of fields) {
    const value = record[field]
    if (typeof value === "string" && value.trim() !== "") return value.trim()
  }
  return undefined
}

/** A value for a warning, clipped. */
export const show = (value: unknown): string => {
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 40 ? `${text.slice(0, 40)}…` : text
}

/** Fields that `toInfo` reads itself. */
const decoded = [
  "model_name",
  "family",
  "parameter_size",
  "quantization_level",
  "capabilities",
  "size",
  "context_length",
  "generation"
]

/** Fields about a server, a measurement or the record itself, not about the model. */
const foreign = [
  "id",
  "digest",
  "details",
  "name",
  "model",
  "object",
  "url",
  "source_url",
  "server_url",
  "performance",
  "tokens_per_second",
  "last_tested",
  "status",
  "__proto__"
]

const left = new Set([...decoded, ...foreign])

const isPassed = (key: string): boolean => !left.has(key) && !key.startsWith("ip_") && !key.startsWith("perf_")

const nameOf = (record: JsonRecord): string | undefined => textAt(record, "model_name", "model", "name")

/** The facts of one record of a registry file or a server's list; `undefined` if it names no model. */
export const toInfo = (record: JsonRecord, family: string | undefined, warn: Warn): Model.ModelInfo | undefined => {
  const name = nameOf(record)
  if (name === undefined) return undefined
  const details = isObject(record["details"]) ? record["details"] : {}
  const flat: JsonRecord = { ...details, ...record }
  const info: Types.Mutable<Model.ModelInfo> = {
    model_name: name,
    family: family ?? familyOf(name, textAt(flat, "family"))
  }

  for (const key of ["size", "context_length"] as const) {
    const number = numberAt(flat, key, warn)
    if (number !== undefined && number >= 0) info[key] = number
  }
  const size = flat["parameter_size"]
  if (!isAbsent(size) && size !== "unknown") {
    if ((typeof size !== "string" && typeof size !== "number") || Model.parseParameters(size) === undefined) {
      warn("parameter_size", `${show(size)} is not a size such as 7B`)
    } else {
      info.parameter_size = String(size)
    }
  }
  const quantization = textAt(flat, "quantization_level")
  if (quantization !== undefined && quantization !== "unknown") info.quantization_level = quantization
  const capabilities = flat["capabilities"]
  if (!isAbsent(capabilities)) {
    if (Array.isArray(capabilities) && capabilities.every((item) => typeof item === "string")) {
      info.capabilities = capabilities
    } else {
      warn("capabilities", "is not a list of words")
    }
  }
  for (const [key, value] of Object.entries(flat)) {
    if (isPassed(key) && !isAbsent(value)) info[key] = value
  }
  const generation = numberAt(flat, "generation", warn) ?? Model.generation(name)
  if (generation !== undefined) info.generation = generation
  return info
}

/** The name takes precedence: Ollama reports the family `llama` for a mistral. */
const familyOf = (name: string, reported: string | undefined): string => {
  const family = Model.familyOf(name)
  return family !== "others" || reported === undefined ? family : Model.familyOf(reported)
}
