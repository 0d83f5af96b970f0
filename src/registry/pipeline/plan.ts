/** Which registry files change when records are applied, and what is different then. */
import * as Data from "effect/Data"
import * as Either from "effect/Either"
import type { RegistryRefusal } from "../../errors/registry.js"
import { isObject } from "../../internal/isObject.js"
import { isAbsent, type JsonRecord } from "../modelRecord.js"
import { type Inventory, read, type Source, urlOf } from "./inventory.js"
import { complete, familyOf, isFamily, keyOf, nameOf, type Rejected } from "./record.js"

/** A file of a family as it is: `name` without a folder. */
export interface PresentFile {
  readonly name: string
  readonly text: string
}

/**
 * A record that is not as it was.
 *
 * @since 0.4.0
 * @category models
 */
export interface Change {
  /** What became of it. */
  readonly change: "added" | "removed" | "changed"
  /** The address of its server; `null` for facts about a model that no server is named for. */
  readonly server: string | null
  /** The name of its model. */
  readonly model: string
  /** Which fields are different. */
  readonly fields?: ReadonlyArray<string>
}

/** Files to write and to remove, and why. */
export interface Plan {
  readonly write: ReadonlyArray<PresentFile>
  readonly remove: ReadonlyArray<string>
  readonly changes: ReadonlyArray<Change>
  /** How many records there were, and will be. */
  readonly before: number
  readonly after: number
  readonly rejected: ReadonlyArray<Rejected>
}

/** The records are not applied. */
export class Refused extends Data.TaggedError("Refused")<{
  readonly kind: RegistryRefusal
  /** In words. */
  readonly reason: string
}> {}

/** How files are replaced. */
export interface PlanOptions {
  /** When records that have no date were added: ISO 8601. */
  readonly now: string
  /** A new identifier, which depends on nothing but this text. */
  readonly newId: (key: string) => string
  /** Whether a result that is empty, or much smaller, is applied too. */
  readonly force: boolean
}

/** The share of the records that must be left. */
const leastLeft = 0.5

/** A family file that holds models; `undefined` for every other file of the folder, which stays as it is. */
export const familyFile = ({ name, text }: PresentFile): Source | undefined => {
  const family = name.slice(0, -".json".length).toLowerCase()
  if (!name.toLowerCase().endsWith(".json") || !isFamily(family)) return undefined
  let json: unknown
  try {
    json = JSON.parse(text.replace(/^\uFEFF/, ""))
  } catch {
    return { name, text, family }
  }
  const page = isObject(json) && isObject(json["props"]) ? json["props"]["pageProps"] : undefined
  const list = Array.isArray(json) ? json : isObject(json) ? json["models"] : undefined
  const models = list ?? (isObject(page) ? page["models"] : undefined)
  if (!Array.isArray(models)) return undefined
  // A list of addresses or of servers is a source of them, and no family.
  const isNamed = (item: unknown) => isObject(item) && !isAbsent(item["model_name"] ?? item["model"] ?? item["name"])
  return models.length === 0 || models.some(isNamed) ? { name, text, family } : undefined
}

const order = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

const textOf = (record: JsonRecord, field: string): string => String(record[field] ?? "")

const byModel = (a: JsonRecord, b: JsonRecord): number =>
  order(textOf(a, "model_name"), textOf(b, "model_name")) || order(textOf(a, "ip_port"), textOf(b, "ip_port"))

/** A record in each line, in a stable order, so that a change is a readable difference. */
export const textOfFamily = (records: ReadonlyArray<JsonRecord>): string =>
  `{"models":[\n${[...records]
    .sort(byModel)
    .map((record) => JSON.stringify(record))
    .join(",\n")}\n]}\n`

const differing = (before: JsonRecord, after: JsonRecord): ReadonlyArray<string> =>
  [...new Set([...Object.keys(before), ...Object.keys(after)])].filter(
    (field) => JSON.stringify(before[field] ?? null) !== JSON.stringify(after[field] ?? null)
  )

const compare = (before: Inventory["records"], after: ReadonlyMap<string, JsonRecord>): ReadonlyArray<Change> => {
  const changes: Array<Change> = []
  const about = (record: JsonRecord) => ({ server: urlOf(record) ?? null, model: textOf(record, "model_name") })
  for (const [key, record] of after) {
    const known = before.get(key)
    if (known === undefined) changes.push({ change: "added", ...about(record) })
    else {
      const fields = differing(complete(known), record)
      if (fields.length > 0) changes.push({ change: "changed", ...about(record), fields })
    }
  }
  for (const [key, record] of before) if (!after.has(key)) changes.push({ change: "removed", ...about(record) })
  return changes
}

/** The records of an input, with identifier and date, one for each server and model. */
const accept = (given: ReadonlyArray<unknown>, present: ReadonlySet<string>, { newId, now }: PlanOptions) => {
  const records = new Map<string, JsonRecord>()
  const rejected: Array<Rejected> = []
  given.forEach((record, index) => {
    const source = `record ${index}`
    const name = isObject(record) ? nameOf(record) : Either.left("is not an object")
    if (!isObject(record) || Either.isLeft(name)) {
      rejected.push({ source, reason: Either.isLeft(name) ? name.left : "is not an object" })
      return
    }
    const url = urlOf(record)
    if (url === undefined && !isAbsent(record["ip_port"])) {
      rejected.push({ source, model: name.right, reason: "its server is not an address" })
      return
    }
    const key = keyOf(url, name.right)
    if (records.has(key)) {
      rejected.push({ source, model: name.right, reason: "is there twice" })
      return
    }
    records.set(
      key,
      complete({
        ...record,
        model_name: name.right,
        ...(url === undefined ? {} : { ip_port: url }),
        family: familyOf(record, present),
        id: record["id"] ?? newId(key),
        date_added: record["date_added"] ?? now
      })
    )
  })
  return { records, rejected }
}

/** Why these records should not replace those, if so. */
const refusalOf = (plan: Pick<Plan, "before" | "after">, unreadable: ReadonlyArray<Rejected>): Refused | undefined => {
  const [broken] = unreadable
  if (plan.after === 0) return new Refused({ kind: "empty", reason: "no record would be left" })
  if (broken !== undefined) {
    const reason = `${broken.source} ${broken.reason}, and what it holds would be lost`
    return new Refused({ kind: "unreadable", reason })
  }
  if (plan.after >= leastLeft * plan.before) return undefined
  const reason = `only ${plan.after} of ${plan.before} records would be left`
  return new Refused({ kind: "much-smaller", reason })
}

/**
 * Plans to replace the family files of a folder by these records. Files with the same content are not written again; a
 * family without records loses its file; files that are of no family stay.
 */
export const plan = (
  given: unknown,
  present: ReadonlyArray<PresentFile>,
  options: PlanOptions
): Either.Either<Plan, Refused> => {
  const list = isObject(given) ? given["models"] : given
  if (!Array.isArray(list))
    return Either.left(new Refused({ kind: "not-a-list", reason: "the records are not a list" }))
  const files = present.flatMap((file) => familyFile(file) ?? [])
  const existing = read(files)
  const stems = new Set(files.flatMap(({ family }) => family ?? []))
  const { records, rejected } = accept(list, stems, options)

  const families = new Map<string, Array<JsonRecord>>()
  for (const record of records.values()) {
    const family = String(record["family"])
    const group = families.get(family)
    if (group === undefined) families.set(family, [record])
    else group.push(record)
  }
  const unreadable = existing.rejected.filter(({ reason }) => reason.startsWith("is not JSON"))
  const counts = { before: existing.records.size, after: records.size }
  const wrong = options.force ? undefined : refusalOf(counts, unreadable)
  if (wrong !== undefined) return Either.left(wrong)

  // Another spelling of a name may be the same file.
  const nameOfFamily = new Map(files.map(({ family, name }) => [family, name]))
  const texts = new Map(present.map(({ name, text }) => [name, text]))
  const write = [...families]
    .map(([family, group]) => ({ name: nameOfFamily.get(family) ?? `${family}.json`, text: textOfFamily(group) }))
    .filter(({ name, text }) => texts.get(name) !== text)
    .sort((a, b) => order(a.name, b.name))
  const remove = files.filter(({ family = "" }) => !families.has(family)).map(({ name }) => name)
  return Either.right({ ...counts, write, remove, changes: compare(existing.records, records), rejected })
}
