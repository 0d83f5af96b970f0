/**
 * What the declarations of the settings say, for people and for editors: the JSON Schema of the configuration file, and the
 * tables of the documentation.
 */
import * as JSONSchema from "effect/JSONSchema"
import { File } from "./file.js"
import { fleet } from "./fleet.js"
import { gateway } from "./gateway.js"
import { registryUrl } from "./registry.js"
import { server } from "./server.js"
import { type AnySetting, defaultOf, namesOf, type Settings, unitOf } from "./setting.js"

type Json = string | number | boolean | null | { readonly [name: string]: Json } | ReadonlyArray<Json>

/** Without what only tells how the schema was made; anything is written as `{}`, as validators understand it. */
const plain = (value: Json, isSchema = true): Json => {
  if (Array.isArray(value)) return value.map((one: Json) => plain(one))
  if (typeof value !== "object" || value === null) return value
  const members = Object.entries(value as { readonly [name: string]: Json })
  return Object.fromEntries(
    members.flatMap(([name, one]) => {
      if (
        isSchema &&
        (name === "$id" || name === "title" || (name === "required" && Array.isArray(one) && one.length === 0))
      )
        return []
      return [[name, plain(one, !(isSchema && (name === "properties" || name === "$defs")))]]
    })
  )
}

/** The JSON Schema of the configuration file. */
export const configSchema = (): object => {
  const schema = plain(JSONSchema.make(File) as unknown as Json) as { readonly [name: string]: Json }
  return { ...schema, title: "aicortex configuration file" }
}

const cell = (text: string): string => text.replaceAll("|", "\\|")

const code = (text: string): string => `\`${cell(text)}\``

const units = { ms: "time", bytes: "bytes", tokens: "tokens" }

const row = (name: string, setting: AnySetting, flags: boolean): string => {
  const unit = unitOf(setting)
  const names = namesOf(name, setting).map(code).join(", ")
  const cells = [
    names,
    setting.file === false ? "" : names,
    (setting.env ?? []).map(code).join(", "),
    ...(flags ? [setting.flag === undefined ? "" : code(`--${setting.flag.name}`)] : []),
    unit === undefined ? "" : units[unit],
    cell(defaultOf(setting) ?? ""),
    cell(setting.doc)
  ]
  return `| ${cells.join(" | ")} |`
}

const table = (settings: Settings, flags: boolean): string =>
  [
    `| option | file | environment |${flags ? " flag |" : ""} unit | default | what |`,
    `|---|---|---|${flags ? "---|" : ""}---|---|---|`,
    ...Object.entries(settings).map(([name, setting]) => row(name, setting, flags))
  ].join("\n")

/** The tables of the documentation, by the name of what they are settings of. */
export const tables = (): { readonly [name: string]: string } => ({
  fleet: table(fleet, true),
  server: table(server, false),
  registryUrl: table(registryUrl, false),
  gateway: table(gateway, true)
})
