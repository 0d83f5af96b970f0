/** The records of registry files: one for each server and model, with the fields of AI Cortex's family files. */
import * as Either from "effect/Either"
import { isObject } from "../../internal/isObject.js"
import * as Model from "../../Model.js"
import * as Server from "../../Server.js"
import { isAbsent, type JsonRecord, textAt, toInfo } from "../modelRecord.js"

/** The fields of a family file, in its order. */
export const fields = [
  "id",
  "ip_port",
  "model_name",
  "model",
  "modified_at",
  "size",
  "digest",
  "parent_model",
  "format",
  "family",
  "parameter_size",
  "quantization_level",
  "date_added",
  "ip_city_name_en",
  "ip_continent_code",
  "ip_continent_name_en",
  "ip_country_name_en",
  "ip_country_iso_code",
  "ip_subdivision_1_name_en",
  "ip_subdivision_2_name_en",
  "ip_autonomous_system_number",
  "ip_autonomous_system_organization",
  "ip_connection_type",
  "ip_isp",
  "ip_organization",
  "ip_user_type",
  "perf_response_text",
  "perf_tokens",
  "perf_time_seconds",
  "perf_tokens_per_second",
  "perf_max_token_speed",
  "perf_avg_token_speed",
  "perf_first_token_time",
  "perf_model_size_bytes",
  "perf_status",
  "perf_error",
  "perf_last_tested"
] as const

/** Fields that this project adds: they are only written where they are known. */
const extras = ["generation", "protocol", "context_length", "capabilities"] as const

/**
 * What was left out, and why.
 *
 * @since 0.4.0
 * @category models
 */
export interface Rejected {
  /** The file or the server that it came from. */
  readonly source: string
  /** The model of the record, where it names one. */
  readonly model?: string
  /** What is wrong with it. */
  readonly reason: string
}

/** A longer name is none. */
const maxName = 256

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const controls = /[\u0000-\u001f\u007f-\u009f]/

/** The name of the model of a record, or why it has none. */
export const nameOf = (record: JsonRecord): Either.Either<string, string> => {
  const name = textAt(record, "model_name", "model", "name")
  if (name === undefined) return Either.left("names no model")
  if (name.length > maxName) return Either.left(`has a name of ${name.length} characters; at most ${maxName} are read`)
  return controls.test(name) ? Either.left("has control characters in its name") : Either.right(name)
}

/** Where servers list their models: such an address is one of the list, and not of the server. */
const listPath = /(\/api\/tags|(?<=\/v\d[^/]*)\/models)\/*$/i

/** The server at an address, which may be the one of its list of models. */
export const serverAt = (address: unknown, protocol?: unknown): Either.Either<Server.Server, string> => {
  if (typeof address !== "string") return Either.left("its address is not a text")
  const url = address.trim().replace(listPath, "")
  const spoken = Server.isNetworkProtocol(protocol) ? protocol : undefined
  const made = Server.fromOptions(spoken === undefined ? url : { url, protocol: spoken }, "a registry file")
  return Either.mapLeft(made, ({ reason }) => reason)
}

/** Identifies a record: of one server and one model there is one. */
export const keyOf = (url: string | undefined, model: string): string => `${url ?? ""}\n${Model.canonical(model)}`

/** The families whose files exist whether or not anybody asks for them. */
const knownFamilies = ["deepseek", "gemma", "llama", "mistral", "others", "qwen"]

const fileName = /^[a-z0-9][a-z0-9_-]{0,63}$/

/** Whether a family can be the name of a file. */
export const isFamily = (name: string): boolean => fileName.test(name)

const quiet = () => {}

/**
 * The family whose file a record belongs to: the one it names if that is one of `present`, else the one that its name
 * says. What a server says never becomes the name of a file.
 */
export const familyOf = (record: JsonRecord, present: ReadonlySet<string>): string => {
  const named = textAt(record, "family")?.toLowerCase()
  if (named !== undefined && (knownFamilies.includes(named) || (present.has(named) && isFamily(named)))) return named
  return toInfo(record, undefined, quiet)?.family ?? "others"
}

/** A family file holds texts, also where they mean numbers. */
const written = (value: unknown): unknown =>
  isAbsent(value) ? null : typeof value === "number" || typeof value === "boolean" ? String(value) : value

/** Other names of fields, as some files have them. */
const aliases: { readonly [field: string]: ReadonlyArray<string> } = {
  ip_city_name_en: ["ip_city_name", "ip_city"],
  ip_continent_name_en: ["ip_continent_name"],
  ip_country_name_en: ["ip_country_name"],
  ip_country_iso_code: ["ip_country_iso"],
  ip_subdivision_1_name_en: ["ip_subdivision_1_name", "ip_subdivision_1"],
  ip_subdivision_2_name_en: ["ip_subdivision_2_name", "ip_subdivision_2"]
}

const valueOf = (record: JsonRecord, field: string): unknown =>
  [field, ...(aliases[field] ?? [])].map((name) => record[name]).find((value) => !isAbsent(value))

/** The 37 fields of a record, in their order; `null` where nothing is known. */
export const exactly = (record: JsonRecord): JsonRecord => {
  const all: { [field: string]: unknown } = {}
  for (const field of fields) {
    const value = written(valueOf(record, field))
    all[field] = isObject(value) || Array.isArray(value) ? null : value
  }
  return all
}

const names: ReadonlySet<string> = new Set([...fields, ...extras, "details", "name", "__proto__"])

/** The same and whatever else is known. */
export const complete = (record: JsonRecord): JsonRecord => {
  const all: { [field: string]: unknown } = { ...exactly(record) }
  for (const field of extras) if (!isAbsent(record[field])) all[field] = record[field]
  for (const [field, value] of Object.entries(record)) {
    if (!names.has(field) && !isAbsent(value)) all[field] = value
  }
  return all
}

/** Fields about where a server stands and who runs it, which all of its records share. */
export const isOfServer = (field: string): boolean =>
  (field.startsWith("ip_") && field !== "ip_port") || field === "protocol"

/** Fields of a measurement, which is of one server and one model. */
export const isMeasured = (field: string): boolean => field.startsWith("perf_")

/** The fields of a record that have such names, and a value. */
export const pick = (record: JsonRecord, wanted: (field: string) => boolean): JsonRecord =>
  Object.fromEntries(Object.entries(record).filter(([field, value]) => wanted(field) && !isAbsent(value)))
