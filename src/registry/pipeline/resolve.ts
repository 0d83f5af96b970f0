/** Joins what servers list now with what registry files record of them. */
import * as Either from "effect/Either"
import { isObject } from "../../internal/isObject.js"
import { isAbsent, type JsonRecord, toInfo } from "../modelRecord.js"
import { type Inventory, urlOf } from "./inventory.js"
import { complete, isMeasured, isOfServer, keyOf, nameOf, pick, type Rejected, serverAt } from "./record.js"

/**
 * The list of models of one server.
 *
 * @since 0.4.0
 * @category models
 */
export interface Fetched {
  /** The address of the list, or of the server. */
  readonly source_url: string
  /** What it speaks, unless that is Ollama's protocol. */
  readonly protocol?: string
  /** Its models, as Ollama lists them: an object for each, with what is known of it in `details`. */
  readonly models: ReadonlyArray<unknown>
}

/** How records are completed. */
export interface ResolveOptions {
  /** When records that are new were added: ISO 8601. */
  readonly now: string
  /** A new identifier, which depends on nothing but this text. */
  readonly newId: (key: string) => string
  /** Whether a server that is not among the fetched keeps its records. */
  readonly keeps: (url: string) => boolean
}

/**
 * Records, and what was left out.
 *
 * @since 0.4.0
 * @category models
 */
export interface Resolved {
  /** One for each server and model, with the fields of AI Cortex's family files. */
  readonly records: ReadonlyArray<JsonRecord>
  /** What was left out, and why. */
  readonly rejected: ReadonlyArray<Rejected>
}

const quiet = () => {}

const facts = [
  "modified_at",
  "digest",
  "parent_model",
  "format",
  "size",
  "parameter_size",
  "quantization_level",
  "context_length",
  "generation",
  "capabilities"
] as const

/** What a server says of a model, without what it should not say: an identifier, a place, a speed. */
const factsOf = (item: JsonRecord): JsonRecord => {
  const { digest } = item
  const info: JsonRecord = { ...toInfo(item, undefined, quiet), ...(typeof digest === "string" ? { digest } : {}) }
  return { ...pick(info, (field) => (facts as ReadonlyArray<string>).includes(field)), derived: info["family"] }
}

/** A measurement is of a model, and not of the one that has its name now. */
const isSameModel = (before: JsonRecord, now: JsonRecord): boolean =>
  isAbsent(before["digest"]) || isAbsent(now["digest"]) || before["digest"] === now["digest"]

/**
 * One record for each server and model that the servers list. A record that was there keeps its identifier, the date on
 * which it was added and its measurement, which no other model gets; place and operator are those of the server. Facts
 * about models that no server is named for stay.
 */
export const resolve = (
  fetched: ReadonlyArray<unknown>,
  existing: Inventory,
  { keeps, newId, now }: ResolveOptions
): Resolved => {
  const records = new Map<string, JsonRecord>()
  const rejected: Array<Rejected> = []
  const answered = new Set<string>()

  for (const list of fetched) {
    const address = isObject(list) ? list["source_url"] : undefined
    const server = serverAt(address, isObject(list) ? list["protocol"] : undefined)
    if (!isObject(list) || Either.isLeft(server)) {
      const reason = Either.isLeft(server) ? server.left : "is not an object"
      rejected.push({ source: typeof address === "string" ? address : "fetched", reason })
      continue
    }
    const { url } = server.right
    if (!Array.isArray(list["models"])) {
      rejected.push({ source: url, reason: "its models are not a list" })
      continue
    }
    answered.add(url)
    const protocol = list["protocol"] ?? server.right.protocol
    for (const item of list["models"]) {
      const name = isObject(item) ? nameOf(item) : Either.left("is not an object")
      if (!isObject(item) || Either.isLeft(name)) {
        rejected.push({ source: url, reason: `a model ${Either.isLeft(name) ? name.left : "is not an object"}` })
        continue
      }
      const key = keyOf(url, name.right)
      if (records.has(key)) {
        rejected.push({ source: url, model: name.right, reason: "is listed twice" })
        continue
      }
      const { derived, ...listed } = factsOf({ ...item, model_name: name.right })
      const before = existing.records.get(key) ?? {}
      const unchanged = isSameModel(before, listed)
      records.set(
        key,
        complete({
          ...pick(before, (field) => unchanged || !isMeasured(field)),
          ...pick(existing.servers.get(url)?.facts ?? {}, isOfServer),
          ...listed,
          ip_port: url,
          model_name: name.right,
          model: name.right,
          family: before["family"] ?? derived,
          id: before["id"] ?? newId(key),
          date_added: before["date_added"] ?? now,
          ...(isAbsent(protocol) || protocol === "ollama" ? { protocol: undefined } : { protocol })
        })
      )
    }
  }

  for (const [key, record] of existing.records) {
    const url = urlOf(record)
    if (url === undefined || (!answered.has(url) && keeps(url))) records.set(key, complete(record))
  }
  return { records: [...records.values()], rejected }
}
