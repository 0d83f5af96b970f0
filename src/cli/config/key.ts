/** The settings of the configuration file by their names: `model`, `defaults.temperature`, `gateway.port`. */
import * as Either from "effect/Either"
import { fleet } from "../../config/fleet.js"
import { gateway } from "../../config/gateway.js"
import { type AnySetting, fromText, namesOf, type Settings } from "../../config/setting.js"
import { isObject } from "../../internal/isObject.js"
import { nearest } from "../../Model.js"
import type { Content } from "./editFile.js"

/** A setting, or a member of one. */
export interface Key {
  /** Its name as it was given. */
  readonly name: string
  readonly setting: AnySetting
  /** Where it stands in the file; `names` are all under which the last but its members may stand. */
  readonly section: "gateway" | undefined
  readonly names: ReadonlyArray<string>
  readonly members: ReadonlyArray<string>
}

/** Those whose members have names that users give: any dot belongs to the name. */
const named: ReadonlySet<string> = new Set(["aliases", "personas"])

const inFile = (settings: Settings): ReadonlyArray<readonly [string, AnySetting]> =>
  Object.entries(settings).filter(([, setting]) => setting.file !== false)

/** The names of all settings of the file. */
export const allNames: ReadonlyArray<string> = [
  ...inFile(fleet).map(([name]) => name),
  ...inFile(gateway).map(([name]) => `gateway.${name}`)
]

/** The setting of this name, or what is wrong with it. */
export const parse = (name: string): Either.Either<Key, string> => {
  const parts = name.split(".")
  const section = parts[0] === "gateway" && parts.length > 1 ? "gateway" : undefined
  const [first = "", ...rest] = section === undefined ? parts : parts.slice(1)
  const found = inFile(section === undefined ? fleet : gateway).find(([own, setting]) =>
    namesOf(own, setting).includes(first)
  )
  if (found === undefined || rest.includes("")) {
    const near = nearest(name, allNames, 1)[0]
    return Either.left(
      `there is no setting '${name}'${near === undefined ? "; `aicortex config` lists them" : `; did you mean '${near}'?`}`
    )
  }
  const [own, setting] = found
  const members = named.has(own) && rest.length > 0 ? [rest.join(".")] : rest
  return Either.right({ name, setting, section, names: namesOf(own, setting), members })
}

/** The member of a value; `undefined` where there is none. */
export const memberOf = (value: unknown, members: ReadonlyArray<string>): unknown =>
  members.reduce<unknown>(
    (one, member) => (isObject(one) && Object.hasOwn(one, member) ? one[member] : undefined),
    value
  )

const jsonOf = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

/** What a text may stand for in the file, the most likely first. */
export const valuesOf = ({ members, name, setting }: Key, text: string): ReadonlyArray<unknown> => {
  if (members.length > 0 || /^\s*[[{"]/.test(text)) return [...new Set([jsonOf(text), text])]
  const read = fromText(setting, text, name)
  return Either.isRight(read) ? [...new Set([read.right, text])] : [text]
}

/** The content with another value at the end of a path; without a value it is taken away, and what is empty then. */
const put = (content: Content, [first = "", ...rest]: ReadonlyArray<string>, value: unknown): Content => {
  const before = content[first]
  const inner = rest.length === 0 ? value : put(isObject(before) ? before : {}, rest, value)
  const empty = inner === undefined || (value === undefined && isObject(inner) && Object.keys(inner).length === 0)
  if (!empty) return { ...content, [first]: inner }
  const { [first]: _, ...others } = content
  return others
}

const pathOf = ({ members, section }: Key, name: string): ReadonlyArray<string> => [
  ...(section === undefined ? [] : [section]),
  name,
  ...members
]

/** The name under which the content gives it, if it does. */
const givenName = (key: Key, content: Content): string | undefined =>
  key.names.find((name) => memberOf(content, pathOf(key, name)) !== undefined)

/** The content with this value, under the name that it has there. */
export const set = (key: Key, content: Content, value: unknown): Content => {
  const section = key.section === undefined ? content : content[key.section]
  const name = key.names.find((one) => memberOf(section, [one]) !== undefined) ?? key.names[0] ?? key.name
  return put(content, pathOf(key, name), value)
}

/** The content without it; `undefined` where it does not give it. */
export const unset = (key: Key, content: Content): Content | undefined => {
  const name = givenName(key, content)
  return name === undefined ? undefined : put(content, pathOf(key, name), undefined)
}
