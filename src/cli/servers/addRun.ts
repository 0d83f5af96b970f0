/** What `aicortex servers add` does. */
import type * as Command from "@effect/cli/Command"
import * as Prompt from "@effect/cli/Prompt"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import * as Cortex from "../../Cortex.js"
import * as ConfigFile from "../../config/file.js"
import * as Config from "../../config/resolve.js"
import { InvalidConfig } from "../../Errors.js"
import * as Geocoding from "../../internal/geocoding.js"
import { Registry } from "../../Registry.js"
import * as Server from "../../Server.js"
import { CommandFailed, refused, UsageError } from "../errors.js"
import * as Output from "../output.js"
import * as Stdin from "../stdin.js"
import type { config } from "./addFlags.js"
import { addServer } from "./editFile.js"

const source = "the command line"

/** The fields of a server that only flags set. */
const flagged: ReadonlySet<string> = new Set([
  "headers",
  "weight",
  "priority",
  "maxInFlight",
  "location",
  "wake",
  "wakeAddress"
])

const usage = (message: string) => new UsageError({ message, command: ["servers", "add"] })

const checked = (options: Server.ServerOptions) =>
  Either.mapLeft(Server.fromOptions(options, source), (error) => {
    const field = error.field.replace(/^servers\./, "")
    if (field === "url") return usage(`URL: ${error.reason}`)
    return flagged.has(field) ? refused("servers add", { field, reason: error.reason }) : error
  })

/** An unknown location would never be near. */
const parseLocation = (text: string) =>
  Effect.gen(function* () {
    const location = yield* Config.parseLocation(text, source, "location")
    const found = yield* Geocoding.locate(location)
    if (Either.isLeft(found)) return yield* new InvalidConfig({ source, field: "location", reason: found.left })
    return location
  }).pipe(Effect.mapError((error) => refused("servers add", error)))

const readKey = Effect.gen(function* () {
  const piped = yield* Stdin.piped
  if (piped === undefined && process.stdin.isTTY !== true) {
    return yield* usage("--ask-api-key reads the key from standard input, and there is none")
  }
  const key = piped ?? Redacted.value(yield* Prompt.hidden({ message: "API key:" }))
  return key.trim() === "" ? yield* usage("the API key is empty") : key.trim()
})

const variable = (name: string) =>
  process.env[name] === undefined || process.env[name] === ""
    ? Effect.fail(new CommandFailed({ message: `the environment variable ${name} is not set: set it first` }))
    : Effect.succeed(process.env[name])

/** A header in the file: its value, or the variable that holds it. */
type Header = readonly [name: string, value: string | { readonly env: string }]

const parseHeaders = Effect.fnUntraced(function* (plain: ReadonlyArray<string>, held: ReadonlyArray<string>) {
  const headers: Array<Header> = []
  const add = ([name, value]: Header) => {
    if (headers.some(([other]) => other.toLowerCase() === name.toLowerCase())) {
      return Effect.fail(usage(`the header ${name} is given twice`))
    }
    headers.push([name, value])
    return Effect.void
  }
  for (const header of plain) {
    const colon = header.indexOf(":")
    // What was given instead may be a secret.
    if (colon < 1) return yield* usage("--header must be a name, a colon and a value, such as 'X-Tenant: blue'")
    yield* add([header.slice(0, colon).trim(), header.slice(colon + 1).trim()])
  }
  for (const header of held) {
    const equals = header.indexOf("=")
    if (equals < 1 || equals === header.length - 1) {
      return yield* usage("--header-env must be a name and a variable, such as X-Tenant=TENANT_KEY")
    }
    yield* add([header.slice(0, equals).trim(), { env: header.slice(equals + 1).trim() }])
  }
  return headers
})

/** Without undefined fields. */
const given = <A extends object>(fields: A) =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    readonly [K in keyof A]?: Exclude<A[K], undefined>
  }

/** User name and password stay in the address: they authenticate the user. */
const written = (url: string, server: Server.Server): string => {
  if (server.authorization === undefined) return server.url
  const parsed = Either.getOrThrow(Server.normalizeUrl(url))
  return server.url.replace("//", `//${parsed.username}:${parsed.password}@`)
}

/** It is probed like any request: through the proxies of the environment and of the file. */
const probe = Effect.fnUntraced(function* (options: Server.ServerOptions) {
  const { ca, proxy = false } = yield* Config.settings({})
  const [status] = yield* Effect.flatMap(Registry, (registry) => registry.servers).pipe(
    Effect.provide(Cortex.layer({ servers: [options], registry: [], configFile: false, ca, proxy }))
  )
  return status
})

export const run = Effect.fnUntraced(function* (flags: Command.Command.ParseConfig<typeof config>) {
  const { askApiKey, apiKeyEnv, city, country, header, headerEnv, location, url, ...rest } = flags
  if (askApiKey && apiKeyEnv !== undefined) return yield* usage("--ask-api-key and --api-key-env exclude each other")
  const place = given({
    ...(location === undefined ? {} : yield* parseLocation(location)),
    ...given({ city, country })
  })
  const located = Object.keys(place).length === 0 ? {} : { location: place }
  const plain = { ...given(rest), ...located }
  const headers = yield* parseHeaders(header, headerEnv)
  const values = yield* Effect.forEach(headers, ([name, value]) =>
    Effect.map(typeof value === "string" ? Effect.succeed(value) : variable(value.env), (text) => [name, text] as const)
  )
  const withHeaders = <A>(all: ReadonlyArray<readonly [string, A]>) =>
    all.length === 0 ? {} : { headers: Object.fromEntries(all) }
  const server = yield* checked({ ...plain, ...withHeaders(values), url })
  const file = yield* ConfigFile.filePath
  const key = apiKeyEnv !== undefined ? yield* variable(apiKeyEnv) : askApiKey ? yield* readKey : undefined
  const kept = { url: written(url, server), ...plain }
  const options: Server.ServerOptions = { ...kept, ...withHeaders(values), ...given({ apiKey: key }) }
  yield* checked(options)

  const entry = {
    ...kept,
    ...withHeaders(headers),
    ...given({ apiKey: apiKeyEnv === undefined ? key : { env: apiKeyEnv } })
  }
  if (!(yield* addServer(file, entry))) {
    return yield* new CommandFailed({ message: `${file} names ${server.url} already` })
  }
  const status = yield* probe(options)
  const found =
    status?.reachable === true
      ? `It answers: ${status.protocol}${status.api === undefined ? "" : ` at ${status.api}`}, ${status.models.length} ${status.models.length === 1 ? "model" : "models"}.`
      : `It does not answer yet: it ${status?.problem ?? "cannot be reached"}.`
  yield* Output.write(`Added ${server.url} to ${file}.\n${found}\n`)
  for (const name of ["AICORTEX_SERVERS", "OLLAMA_HOST"]) {
    if (process.env[name]?.trim()) return yield* Output.notice(`${name} is set, and overrides the servers of the file`)
  }
})
