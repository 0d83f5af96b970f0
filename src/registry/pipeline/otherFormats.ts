/** Registries in the forms that others read: family files, lists of servers, lists of addresses. */
import { isAbsent, type JsonRecord } from "../modelRecord.js"
import { type Inventory, urlOf } from "./inventory.js"
import { type PresentFile, textOfFamily } from "./plan.js"
import { exactly, familyOf } from "./record.js"
import type { ServersFile } from "./serversFile.js"

const numberAt = (record: JsonRecord, field: string): number | undefined => {
  const value = record[field]
  const number = isAbsent(value) ? Number.NaN : Number(value)
  return Number.isFinite(number) ? number : undefined
}

const textAt = (record: JsonRecord, ...fields: ReadonlyArray<string>): string | undefined => {
  for (const field of fields) {
    const value = record[field]
    if (!isAbsent(value) && typeof value !== "object") return String(value)
  }
  return undefined
}

/** Without what is not known. */
const known = <A extends object>(value: A): A | undefined => {
  const entries = Object.entries(value).filter(([, one]) => one !== undefined)
  return entries.length === 0 ? undefined : (Object.fromEntries(entries) as A)
}

const modelOf = (record: JsonRecord) =>
  known({
    model_name: String(record["model_name"]),
    family: textAt(record, "family"),
    parameter_size: textAt(record, "parameter_size"),
    quantization_level: textAt(record, "quantization_level"),
    size: numberAt(record, "size"),
    context_length: numberAt(record, "context_length"),
    digest: textAt(record, "digest"),
    modified_at: textAt(record, "modified_at"),
    id: textAt(record, "id"),
    date_added: textAt(record, "date_added"),
    performance: known({
      tokens_per_second: numberAt(record, "perf_tokens_per_second"),
      last_tested: textAt(record, "perf_last_tested"),
      status: textAt(record, "perf_status")
    })
  })

/** `servers.json`: each server once, with its models. */
export const toServers = ({ records, servers }: Inventory): ServersFile => {
  const models = new Map<string, Array<object>>()
  for (const record of records.values()) {
    const url = urlOf(record)
    const model = modelOf(record)
    if (url === undefined || model === undefined) continue
    models.set(url, [...(models.get(url) ?? []), model])
  }
  return {
    servers: [...servers].map(([url, { facts, server }]) => ({
      url,
      ...known({
        protocol: textAt(facts, "protocol") ?? server.protocol,
        organization: textAt(facts, "ip_organization"),
        location: known({
          city: textAt(facts, "ip_city_name_en", "ip_city_name", "ip_city"),
          country: textAt(facts, "ip_country_iso_code", "ip_country_iso"),
          countryName: textAt(facts, "ip_country_name_en", "ip_country_name"),
          continent: textAt(facts, "ip_continent_name_en", "ip_continent_name", "ip_continent_code"),
          latitude: numberAt(facts, "ip_latitude"),
          longitude: numberAt(facts, "ip_longitude")
        })
      }),
      models: models.get(url) ?? []
    }))
  } as ServersFile
}

/** Family files, as AI Cortex has them: exactly its fields. */
export const toFamilies = ({ records }: Inventory): ReadonlyArray<PresentFile> => {
  const present = new Set([...records.values()].flatMap(({ family }) => (typeof family === "string" ? [family] : [])))
  const families = new Map<string, Array<JsonRecord>>()
  for (const record of records.values()) {
    const family = familyOf(record, present)
    families.set(family, [...(families.get(family) ?? []), exactly({ ...record, family })])
  }
  return [...families].map(([family, group]) => ({ name: `${family}.json`, text: textOfFamily(group) }))
}

/** An address in each line, sorted. */
export const toUrls = ({ servers }: Inventory): string =>
  [...servers.keys()]
    .sort()
    .map((url) => `${url}\n`)
    .join("")
