/** Reads registry files of every shape, and lists of addresses, into servers and records. */
import * as Either from "effect/Either"
import { isObject } from "../../internal/isObject.js"
import type { Server } from "../../Server.js"
import { isAbsent, type JsonRecord, textAt } from "../modelRecord.js"
import { isOfServer, keyOf, nameOf, pick, type Rejected, serverAt } from "./record.js"

/** A file or an input. `family` is that of all its records, where it is the file of a family. */
export interface Source {
  /** What it is called in messages. */
  readonly name: string
  readonly text: string
  readonly family?: string
}

/** A server, and what is recorded of it in addition to its models. */
export interface InventoryServer {
  readonly server: Server
  /** The `ip_` fields and the protocol. */
  readonly facts: JsonRecord
}

/** What registry files hold: servers by their URL, and records by `keyOf`. */
export interface Inventory {
  readonly servers: ReadonlyMap<string, InventoryServer>
  readonly records: ReadonlyMap<string, JsonRecord>
  readonly rejected: ReadonlyArray<Rejected>
}

/** The URL of a record's server; `undefined` for facts about a model that no server is named for. */
export const urlOf = (record: JsonRecord): string | undefined =>
  isAbsent(record["ip_port"])
    ? undefined
    : Either.getOrUndefined(Either.map(serverAt(record["ip_port"]), ({ url }) => url))

const locationFields = {
  city: "ip_city_name_en",
  country: "ip_country_iso_code",
  countryName: "ip_country_name_en",
  continent: "ip_continent_name_en",
  latitude: "ip_latitude",
  longitude: "ip_longitude"
} as const

/** The facts of an entry of `servers`. */
const factsOf = (entry: JsonRecord): JsonRecord => {
  const location = isObject(entry["location"]) ? entry["location"] : {}
  const facts: { [field: string]: unknown } = {}
  for (const [name, field] of Object.entries(locationFields)) {
    const value = location[name] ?? entry[name]
    if (typeof value === "string" || typeof value === "number") facts[field] = value
  }
  const organization = textAt(entry, "organization")
  if (organization !== undefined) facts["ip_organization"] = organization
  return { ...facts, ...pick(entry, isOfServer) }
}

const measurements = ["tokens_per_second", "last_tested", "status"] as const

/** A model of an entry of `servers` as a record. */
const recordOf = (model: unknown): JsonRecord => {
  if (typeof model === "string") return { model_name: model }
  if (!isObject(model)) return {}
  const { performance, ...rest } = model
  const measured = isObject(performance) ? { ...performance, ...model } : model
  const record: { [field: string]: unknown } = { ...rest }
  for (const field of measurements) {
    delete record[field]
    if (!isAbsent(measured[field])) record[`perf_${field}`] ??= measured[field]
  }
  return record
}

/** One object of fields: Ollama's lists have some of them in `details`, which may be `null`. */
const flat = (record: JsonRecord): JsonRecord => {
  const { details, name: _, ["__proto__"]: __, ...rest } = record
  return isObject(details) ? { ...details, ...rest } : rest
}

/** The lists in JSON of the known shapes. */
const itemsOf = (json: unknown): ReadonlyArray<unknown> | undefined => {
  if (Array.isArray(json)) return json
  if (!isObject(json)) return undefined
  if (typeof json["source_url"] === "string") return [json]
  for (const list of [json["models"], json["servers"]]) if (Array.isArray(list)) return list
  const props = json["props"]
  const page = isObject(props) ? props["pageProps"] : undefined
  return isObject(page) && Array.isArray(page["models"]) ? page["models"] : undefined
}

/** JSON, or an address in each line; lines that begin with `#` are comments. */
const parse = (text: string): Either.Either<ReadonlyArray<unknown>, string> => {
  const content = text.replace(/^\uFEFF/, "").trim()
  if (!/^[[{]/.test(content)) {
    const lines = content.split(/\r?\n/).map((line) => line.trim())
    return Either.right(lines.filter((line) => line !== "" && !line.startsWith("#")))
  }
  return Either.flatMap(
    Either.try({
      try: (): unknown => JSON.parse(content),
      catch: (error) => `is not JSON: ${error instanceof Error ? error.message : String(error)}`
    }),
    (json) => Either.fromNullable(itemsOf(json), () => "holds no list of models or servers")
  )
}

/** Whether an object is a server with its models, and not a record of one model. */
const isServer = (item: JsonRecord): boolean =>
  isAbsent(item["model_name"]) && (Array.isArray(item["models"]) || !isAbsent(item["url"] ?? item["source_url"]))

/** Reads files: the first record of a server and a model counts, later ones only fill what it leaves open. */
export const read = (sources: Iterable<Source>): Inventory => {
  const servers = new Map<string, InventoryServer>()
  const records = new Map<string, JsonRecord>()
  const rejected: Array<Rejected> = []

  const addServer = (address: unknown, facts: JsonRecord): Either.Either<string, string> =>
    Either.map(serverAt(address, facts["protocol"]), (server) => {
      const known = servers.get(server.url)
      servers.set(server.url, { server: known?.server ?? server, facts: { ...facts, ...known?.facts } })
      return server.url
    })

  const addRecord = (
    { family, name: source }: Source,
    given: JsonRecord,
    at: string | undefined
  ): Either.Either<void, string> =>
    Either.gen(function* () {
      const name = yield* nameOf(given)
      const record = flat(given)
      const address = at ?? record["ip_port"]
      const url = isAbsent(address) ? undefined : yield* addServer(address, pick(record, isOfServer))
      const key = keyOf(url, name)
      const known = records.get(key) ?? {}
      records.set(key, {
        ...record,
        model_name: name,
        ...(url === undefined ? {} : { ip_port: url }),
        ...(family === undefined ? {} : { family }),
        ...pick(known, () => true)
      })
    }).pipe(
      Either.mapLeft((reason) => {
        const name = Either.getOrUndefined(nameOf(given))
        rejected.push({ source, ...(name === undefined ? {} : { model: name }), reason })
        return reason
      })
    )

  for (const source of sources) {
    const items = parse(source.text)
    if (Either.isLeft(items)) {
      rejected.push({ source: source.name, reason: items.left })
      continue
    }
    for (const item of items.right) {
      if (typeof item !== "string" && !isObject(item)) {
        rejected.push({ source: source.name, reason: "has an entry that is neither an address nor an object" })
      } else if (typeof item === "string" || isServer(item)) {
        const [address, facts, models] =
          typeof item === "string"
            ? [item, {}, []]
            : [item["url"] ?? item["source_url"] ?? item["ip_port"], factsOf(item), item["models"]]
        const added = addServer(address, facts)
        if (Either.isLeft(added)) rejected.push({ source: source.name, reason: added.left })
        else if (Array.isArray(models)) {
          for (const model of models) addRecord(source, recordOf(model), added.right)
        }
      } else addRecord(source, item, undefined)
    }
  }
  return { servers, records, rejected }
}
