/** What registry files say: the models and servers that they describe. */
import * as Either from "effect/Either"
import { RegistryWarning } from "../Errors.js"
import { isObject } from "../internal/isObject.js"
import { plausible } from "../internal/speed.js"
import * as Model from "../Model.js"
import * as Server from "../Server.js"
import { isAbsent, type JsonRecord, numberAt, show, textAt, toInfo, type Warn } from "./modelRecord.js"

export { toInfo } from "./modelRecord.js"

// =============================================================================
// Models
// =============================================================================

/** A server as recorded: the speed of each of its models by canonical name, if measured. */
export interface RecordedServer {
  readonly server: Server.Server
  readonly models: ReadonlyMap<string, Server.Performance | undefined>
}

/** The contents of registry files. `models` is keyed by canonical name, `servers` by URL. */
export interface Catalogue {
  readonly families: ReadonlySet<string>
  readonly models: ReadonlyMap<string, Model.ModelInfo>
  readonly servers: ReadonlyMap<string, RecordedServer>
  readonly warnings: ReadonlyArray<RegistryWarning>
}

/** One registry file. `family` is its name without the extension; `undefined`: its models say it themselves. */
export interface RegistryFile {
  readonly path: string
  readonly family: string | undefined
  readonly text: string
}

export const empty: Catalogue = { families: new Set(), models: new Map(), servers: new Map(), warnings: [] }

const performanceOf = (speed: number | undefined, tested: string | undefined): Server.Performance | undefined => {
  const known = plausible(speed)
  if (known === undefined && tested === undefined) return undefined
  return {
    ...(known === undefined ? {} : { tokens_per_second: known }),
    ...(tested === undefined ? {} : { last_tested: tested })
  }
}

const locationOf = (record: JsonRecord, warn: Warn): Server.Location | undefined => {
  const texts = {
    city: textAt(record, "ip_city", "ip_city_name", "ip_city_name_en", "city"),
    country: textAt(record, "ip_country_iso_code", "ip_country_iso", "country"),
    countryName: textAt(record, "ip_country_name", "ip_country_name_en", "countryName", "country_name"),
    continent: textAt(record, "ip_continent_name", "ip_continent_name_en", "ip_continent_code", "continent")
  }
  const degrees = (fields: ReadonlyArray<string>, most: number): number | undefined => {
    const field = fields.find((name) => !isAbsent(record[name]))
    if (field === undefined) return undefined
    const value = numberAt(record, field, warn)
    if (value === undefined || Math.abs(value) <= most) return value
    warn(field, `${value} is not in -${most}…${most}`)
    return undefined
  }
  const location = {
    ...texts,
    latitude: degrees(["ip_latitude", "latitude"], 90),
    longitude: degrees(["ip_longitude", "longitude"], 180)
  }
  const known = Object.entries(location).filter(([, value]) => value !== undefined)
  return known.length === 0 ? undefined : Object.fromEntries(known)
}

// =============================================================================
// Files
// =============================================================================

interface Recorded extends RecordedServer {
  readonly models: Map<string, Server.Performance | undefined>
}

/** Whether a bare list is one of servers or addresses, and not of models. */
const isListOfServers = (list: ReadonlyArray<unknown>): boolean =>
  list.length > 0 &&
  list.every(
    (item) =>
      typeof item === "string" ||
      (isObject(item) && isAbsent(item["model_name"]) && !isAbsent(item["url"] ?? item["source_url"]))
  )

/** Where Ollama lists its models: such an address is one of the list, and not of the server. */
const listPath = /\/api\/tags\/*$/i

/** Finds the records in the supported shapes of files. */
const shapeOf = (
  json: unknown
): { readonly models: ReadonlyArray<unknown> } | { readonly servers: ReadonlyArray<unknown> } | undefined => {
  if (Array.isArray(json)) return isListOfServers(json) ? { servers: json } : { models: json }
  if (!isObject(json)) return undefined
  if (Array.isArray(json["models"])) {
    return isAbsent(json["source_url"]) ? { models: json["models"] } : { servers: [json] }
  }
  if (Array.isArray(json["servers"])) return { servers: json["servers"] }
  const props = json["props"]
  const page = isObject(props) ? props["pageProps"] : undefined
  const models = isObject(page) ? page["models"] : undefined
  return Array.isArray(models) ? { models } : undefined
}

/**
 * Parses registry files: unusable parts are skipped and reported in `warnings`. Of two records about the same model,
 * the first counts. Servers are only read if `withServers` says that the files may name some.
 */
export const parse = (files: Iterable<RegistryFile>, withServers: boolean): Catalogue => {
  const families = new Set<string>()
  const models = new Map<string, Model.ModelInfo>()
  const servers = new Map<string, Recorded>()
  const warnings: Array<RegistryWarning> = []

  const warner =
    (file: string, record: number | undefined): Warn =>
    (field, reason) => {
      warnings.push(
        new RegistryWarning({
          file,
          ...(record === undefined ? {} : { record }),
          ...(field === undefined ? {} : { field }),
          reason
        })
      )
    }

  const addModel = (info: Model.ModelInfo): string => {
    const key = Model.canonical(info.model_name)
    if (!models.has(key)) models.set(key, info)
    return key
  }

  // Many records name the same server: looked up by the address as written.
  const byAddress = new Map<string, Recorded | undefined>()
  const serverAt = (
    file: RegistryFile,
    address: string,
    record: JsonRecord,
    location: JsonRecord,
    warn: Warn
  ): Recorded | undefined => {
    if (byAddress.has(address)) return byAddress.get(address)
    const protocol = record["protocol"]
    const spoken = Server.isNetworkProtocol(protocol) ? protocol : undefined
    if (!isAbsent(protocol) && spoken === undefined) {
      warn("protocol", `${show(protocol)} is none of ${Server.networkProtocols.join(", ")}`)
    }
    const made = Server.fromOptions(
      {
        url: address,
        protocol: spoken,
        location: locationOf(location, warn),
        organization: textAt(record, "organization", "ip_organization")
      },
      file.path
    )
    if (Either.isLeft(made)) {
      warn(record["url"] === undefined ? "ip_port" : "url", made.left.reason)
      byAddress.set(address, undefined)
      return undefined
    }
    const server = made.right
    const recorded = servers.get(server.url) ?? { server, models: new Map() }
    servers.set(server.url, recorded)
    byAddress.set(address, recorded)
    return recorded
  }

  const readModels = (file: RegistryFile, records: ReadonlyArray<unknown>): void => {
    for (let i = 0; i < records.length; i++) {
      const warn = warner(file.path, i)
      const record = records[i]
      if (!isObject(record)) {
        warn(undefined, "is not an object")
        continue
      }
      const info = toInfo(record, file.family, warn)
      if (info === undefined) {
        warn("model_name", "is missing")
        continue
      }
      const key = addModel(info)
      if (!withServers || isAbsent(record["ip_port"])) continue
      const address = record["ip_port"]
      if (typeof address !== "string") {
        warn("ip_port", `${show(address)} is not an address`)
        continue
      }
      const found = serverAt(file, address, record, record, warn)
      if (found === undefined) continue
      const speed =
        record["perf_status"] === "error"
          ? undefined
          : performanceOf(numberAt(record, "perf_tokens_per_second", warn), textAt(record, "perf_last_tested"))
      if (found.models.get(key) === undefined) found.models.set(key, speed)
    }
  }

  const readServers = (file: RegistryFile, records: ReadonlyArray<unknown>): void => {
    for (let i = 0; i < records.length; i++) {
      const warn = warner(file.path, i)
      const item = records[i]
      const record = typeof item === "string" ? { url: item } : item
      const given = isObject(record) ? textAt(record, "url", "source_url", "ip_port") : undefined
      const address = given?.replace(listPath, "")
      if (!isObject(record) || address === undefined) {
        warn(isObject(record) ? "url" : undefined, isObject(record) ? "is missing" : "is not an object")
        continue
      }
      const location = isObject(record["location"]) ? { ...record, ...record["location"] } : record
      const found = withServers ? serverAt(file, address, record, location, warn) : undefined
      const list = record["models"]
      if (!isAbsent(list) && !Array.isArray(list)) warn("models", "is not a list")
      for (const item of Array.isArray(list) ? list : []) {
        const model: JsonRecord = typeof item === "string" ? { model_name: item } : isObject(item) ? item : {}
        const info = toInfo(model, undefined, warn)
        if (info === undefined) {
          warn("models", `${show(item)} names no model`)
          continue
        }
        const key = addModel(info)
        if (found === undefined) continue
        const nested = isObject(model["performance"]) ? model["performance"] : {}
        const measured: JsonRecord = { ...nested, ...model }
        const failed = (measured["status"] ?? measured["perf_status"]) === "error"
        const speed = failed
          ? undefined
          : performanceOf(
              numberAt(measured, "tokens_per_second", warn) ?? numberAt(measured, "perf_tokens_per_second", warn),
              textAt(measured, "last_tested", "perf_last_tested")
            )
        if (found.models.get(key) === undefined) found.models.set(key, speed)
      }
    }
  }

  for (const file of files) {
    const shape = shapeOfText(file.text)
    if (Either.isLeft(shape)) {
      warner(file.path, undefined)(undefined, shape.left)
    } else if ("servers" in shape.right) {
      readServers(file, shape.right.servers)
    } else {
      if (file.family !== undefined) families.add(file.family)
      readModels(file, shape.right.models)
      if (file.family === undefined) for (const { family } of models.values()) families.add(family)
    }
  }
  return { families, models, servers, warnings }
}

/** The records in a text, or why it holds none. */
const shapeOfText = (text: string) => {
  let json: unknown
  try {
    json = JSON.parse(text.replace(/^\uFEFF/, ""))
  } catch (error) {
    return Either.left(`is not JSON: ${error instanceof Error ? error.message : String(error)}`)
  }
  return Either.fromNullable(shapeOf(json), () => "holds no list of models or servers")
}

/**
 * Parses one file, or says why it cannot be used as a whole. Parts that cannot be used are left out, with a warning.
 */
export const parseFile = (file: RegistryFile, withServers: boolean): Either.Either<Catalogue, string> =>
  Either.map(shapeOfText(file.text), () => parse([file], withServers))

/** The files of one folder: of two records about the same model, the first counts. */
export const join = (files: ReadonlyArray<Catalogue>): Catalogue => {
  const [first] = files
  if (first !== undefined && files.length === 1) return first
  const models = new Map<string, Model.ModelInfo>()
  const servers = new Map<string, Recorded>()
  for (const file of files) {
    for (const [key, info] of file.models) if (!models.has(key)) models.set(key, info)
    for (const [url, { models, server }] of file.servers) {
      const known = servers.get(url)
      if (known === undefined) servers.set(url, { server, models: new Map(models) })
      else for (const [key, speed] of models) if (known.models.get(key) === undefined) known.models.set(key, speed)
    }
  }
  return {
    families: new Set(files.flatMap(({ families }) => [...families])),
    models,
    servers,
    warnings: files.flatMap(({ warnings }) => warnings)
  }
}

/** Merges catalogues: earlier ones take precedence, later ones fill the gaps. */
export const merge = (catalogues: ReadonlyArray<Catalogue>): Catalogue => {
  const families = new Set<string>()
  const models = new Map<string, Model.ModelInfo>()
  const servers = new Map<string, RecordedServer>()
  const warnings: Array<RegistryWarning> = []
  for (const catalogue of catalogues) {
    for (const family of catalogue.families) families.add(family)
    for (const [key, info] of catalogue.models) {
      const known = models.get(key)
      models.set(key, known === undefined ? info : { ...info, ...known })
    }
    for (const [url, recorded] of catalogue.servers) {
      const known = servers.get(url)
      servers.set(
        url,
        known === undefined
          ? recorded
          : { server: known.server, models: new Map([...recorded.models, ...known.models]) }
      )
    }
    warnings.push(...catalogue.warnings)
  }
  return { families, models, servers, warnings }
}
