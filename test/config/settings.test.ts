import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeContext from "@effect/platform-node/NodeContext"
import { Ajv } from "ajv"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { afterAll, afterEach, describe, expect, it, vi } from "vitest"
import { files } from "../../scripts/settings.mjs"
import { fleet } from "../../src/config/fleet.js"
import { gateway } from "../../src/config/gateway.js"
import { resolvePlaces } from "../../src/config/gatewaySettings.js"
import * as Config from "../../src/config/resolve.js"
import type { Settings } from "../../src/config/setting.js"

const root = new URL("../..", import.meta.url).pathname
const folder = mkdtempSync(join(tmpdir(), "aicortex-settings-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
afterEach(() => vi.unstubAllEnvs())

const configFile = (content: unknown) => {
  const file = join(mkdtempSync(join(folder, "c-")), "config.json")
  writeFileSync(file, typeof content === "string" ? content : JSON.stringify(content))
  return file
}

const resolve = (options: Config.ConfigOptions) =>
  Effect.runPromise(Effect.either(Effect.provide(Config.resolve(options), NodeContext.layer)))

const held = async (options: Config.ConfigOptions) => Either.getOrThrow(await resolve(options))

const refusal = async (options: Config.ConfigOptions) => Either.getOrThrow(Either.flip(await resolve(options)))

const schema = JSON.parse(readFileSync(join(root, "config.schema.json"), "utf8"))
const validate = new Ajv({ allErrors: true, strict: false }).compile(schema)

describe("files generated from the declarations", () => {
  it("are up to date: `npm run docs:settings` would change nothing", async () => {
    for (const [path, text] of Object.entries(await files())) {
      expect(readFileSync(join(root, path), "utf8") === text, `${path} is out of date`).toBe(true)
    }
  })

  it("the page lists every setting of the file, with its variables and its flag", () => {
    const page = readFileSync(join(root, "docs/settings.md"), "utf8")
    for (const [name, { env = [], flag }] of Object.entries<Settings[string]>({ ...fleet, ...gateway })) {
      const line = page
        .split("\n")
        .find((one) => one.startsWith(`| \`${name}\``) && env.every((each) => one.includes(each)))
      expect(line, name).toBeDefined()
      if (flag !== undefined) expect(page).toContain(name === "configFile" ? "configFile" : `--${flag.name}`)
    }
  })
})

// -----------------------------------------------------------------------------

const isConfig = (value: unknown): boolean =>
  typeof value === "object" && value !== null && Object.keys(value).some((key) => key in fleet || key === "gateway")

/** The configuration files that the documentation shows. */
const examples = () => {
  const pages = [
    "README.md",
    ...readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".md"))
      .map((name) => join("docs", name))
  ]
  return pages.flatMap((page) =>
    [...readFileSync(join(root, page), "utf8").matchAll(/```json\n([\s\S]*?)```/g)].flatMap(([, text = ""]) => {
      const value = Either.getOrUndefined(Either.try(() => JSON.parse(text) as unknown))
      return isConfig(value) ? [[page, value as object] as const] : []
    })
  )
}

describe("the JSON Schema of the configuration file", () => {
  it("has examples", () => expect(examples().length).toBeGreaterThanOrEqual(3))

  it.each(examples())("accepts the example of %s: %j", async (_, value) => {
    expect(validate(value), JSON.stringify(validate.errors)).toBe(true)
    for (const name of ["LLM_KEY", "ANTHROPIC_API_KEY"]) vi.stubEnv(name, "k")
    expect(Either.isRight(await resolve({ configFile: configFile(value) }))).toBe(true)
  })

  /** What each kind of value may be, and may not. */
  const values: ReadonlyArray<readonly [string, ReadonlyArray<unknown>, ReadonlyArray<unknown>]> = [
    [
      "servers",
      [[], ["http://a"], [{ url: "http://a", weight: 2, location: "Berlin" }]],
      [
        "http://a",
        [5],
        [{ weight: 1 }],
        [{ url: "http://a", wait: 1 }],
        [{ url: "http://a", weight: 0 }],
        [{ url: "http://a", maxInFlight: 1.5 }]
      ]
    ],
    ["model", ["m"], ["", 5]],
    ["serverCooldown", [0.5, 60], [0, -1, "60"]],
    ["probeInterval", [1, 30], [0.5, 0, true]],
    ["maxQueued", [0, 7], [-1, 1.5]],
    ["maxSchemaBytes", [1], [0, 2.5, "1"]],
    ["parallel", [1], [0, 1.5]],
    ["personas", [{}, { p: "x" }], [[], { p: 5 }]],
    ["stateFile", ["f", false], [true, "", 5]],
    ["sessions", [{ folder: false, ttl: 5 }], [{ maxSession: 1 }, { ttl: 0 }, 5]],
    [
      "models",
      [{ folder: "f" }, { aliases: { small: "hf:a/b:Q8_0" }, hub: "http://h:1/x", parallel: 2, stallTimeout: 0.5 }],
      [
        { folder: "" },
        { folders: "f" },
        "f",
        { hub: "ftp://h" },
        { hub: "https://a:b@h" },
        { parallel: 0 },
        { rangeBytes: 5 }
      ]
    ],
    ["hedge", [true, { after: 0.5 }], [{ after: 0 }, { afer: 1 }, "yes"]],
    ["cache", [false, { ttl: 60, shared: true }], [{ maxEntries: 0 }, { maxEntry: 1 }, "on"]],
    ["defaults", [{ timeout: 60, temperature: 0 }], [{ timeout: -1 }, { temperature: 3 }, { temprature: 1 }]],
    ["proxy", [false, "http://p:1", { https: "http://p:1", loopback: true }], [5, { ftp: "x" }]],
    [
      "gateway",
      [{ port: 0, keys: [{ name: "a", key: { env: "LLM_KEY" } }], heartbeat: 0, responses: { ttl: 5 } }],
      [
        { port: 70_000 },
        { prot: 1 },
        { keys: [{ name: "a" }] },
        { timeout: 0 },
        { log: "xml" },
        { responses: { ttl: 0 } }
      ]
    ]
  ]

  it.each(values)("agrees with the library: %s", async (name, right, wrong) => {
    for (const name of ["LLM_KEY", "ANTHROPIC_API_KEY"]) vi.stubEnv(name, "k")
    for (const value of right) {
      expect(validate({ [name]: value }), `${JSON.stringify(value)} ${JSON.stringify(validate.errors)}`).toBe(true)
      expect(Either.isRight(await resolve({ configFile: configFile({ [name]: value }) })), JSON.stringify(value)).toBe(
        true
      )
    }
    for (const value of wrong) {
      expect(validate({ [name]: value }), JSON.stringify(value)).toBe(false)
      const file = configFile({ [name]: value })
      const error = await refusal({ configFile: file })
      expect(error).toMatchObject({ _tag: "InvalidConfig", source: file })
      expect(error.field.split(".")[0]).toBe(name)
    }
  })

  it("a file may refer to it, for editors", async () => {
    const value = { $schema: "./node_modules/aicortex/config.schema.json", model: "m" }
    expect(validate(value)).toBe(true)
    expect((await held({ configFile: configFile(value) })).settings.model).toBe("m")
  })
})

// -----------------------------------------------------------------------------

describe("precedence of sources", () => {
  /** A value of each, as text, in the file, and as an option; and what holds then. */
  const all: ReadonlyArray<
    readonly [keyof Config.ConfigOptions & keyof typeof fleet, string, string, unknown, unknown]
  > = [
    ["model", "AICORTEX_MODEL", "of-env", "of-file", "of-options"],
    ["serverCooldown", "AICORTEX_SERVER_COOLDOWN", "2", 3, 4_000],
    ["probeInterval", "AICORTEX_PROBE_INTERVAL", "2", 3, 4_000],
    ["maxSchemaBytes", "AICORTEX_MAX_SCHEMA_BYTES", "2", 3, 4_000],
    ["parallel", "OLLAMA_NUM_PARALLEL", "2", 3, 4_000],
    ["stateFile", "AICORTEX_STATE", "of-env", "of-file", "of-options"]
  ]
  const times: ReadonlySet<string> = new Set(["serverCooldown", "probeInterval"])
  const inProgram = (name: string, value: unknown) =>
    times.has(name) ? Number(value) * 1000 : Number.isNaN(Number(value)) ? value : Number(value)

  it.each(all)("%s: options, then %s, then the file", async (name, variable, text, inFile, option) => {
    const file = configFile({ [name]: inFile })
    const only = await held({ configFile: file })
    expect(only.settings[name as "model"]).toBe(inProgram(name, inFile))
    expect(only.places[name]?.origin).toBe("the file")
    vi.stubEnv(variable, text)
    const above = await held({ configFile: file })
    expect(above.settings[name as "model"]).toBe(inProgram(name, text))
    expect(above.places[name]?.origin).toBe(variable)
    const first = await held({ configFile: file, [name]: option })
    expect(first.settings[name as "model"]).toBe(option)
    expect(first.places[name]?.origin).toBe("the options")
    // A program that reads neither has neither.
    expect((await held({ configFile: false })).places[name]).toBeUndefined()
  })

  it("merged objects: each member from the first source that has it", async () => {
    const file = configFile({ defaults: { timeout: 12, temperature: 0.2 }, sessions: { folder: "f", ttl: 5 } })
    vi.stubEnv("AICORTEX_DEFAULTS", '{"temperature":0.3,"deadline":7}')
    vi.stubEnv("AICORTEX_SESSIONS", "off")
    const { members, settings } = await held({ configFile: file, defaults: { seed: 1 }, sessions: { maxSessions: 3 } })
    expect(settings.defaults).toEqual({ seed: 1, temperature: 0.3, deadline: 7_000, timeout: 12_000 })
    expect(settings.sessions).toEqual({ folder: undefined, ttl: 5_000, maxSessions: 3 })
    expect(Object.entries(members.defaults ?? {}).map(([name, { origin }]) => [name, origin])).toEqual([
      ["seed", "the options"],
      ["temperature", "AICORTEX_DEFAULTS"],
      ["deadline", "AICORTEX_DEFAULTS"],
      ["timeout", "the file"]
    ])
  })

  it.each([
    [{ serverCooldown: -1 }, "the options", "serverCooldown", "must be a number of milliseconds above 0"],
    [{ serverCoolDown: 1 }, "the options", "serverCoolDown", "did you mean 'serverCooldown'?"],
    [{ server_cooldown: 1 }, "the options", "server_cooldown", "did you mean 'serverCooldown'?"],
    [{ sessions: { maxSession: 1 } }, "the options", "sessions.maxSession", "did you mean 'maxSessions'?"],
    [{ proxy: { ftp: "x" } }, "the options", "proxy.ftp", "is not known"]
  ])("an invalid option is reported with its path: %j", async (options, source, field, reason) => {
    const error = await refusal({ ...(options as object), configFile: false })
    expect(error).toMatchObject({ source, field, reason: expect.stringContaining(reason) })
  })

  it.each([
    ["AICORTEX_SERVER_COOLDOWN", "soon", "must be a number, not 'soon'"],
    ["AICORTEX_SERVER_COOLDOWN", "0", "must be a number of seconds above 0, not '0'"],
    ["AICORTEX_MAX_SCHEMA_BYTES", "1.5", "must be a whole number from 1, not '1.5'"],
    ["OLLAMA_NUM_PARALLEL", "many", "must be a number, not 'many'"],
    ["AICORTEX_DEFAULTS", "{", "is not a JSON object"]
  ])("an invalid variable is reported by name: %s=%s", async (name, text, reason) => {
    vi.stubEnv(name, text)
    expect(await refusal({ configFile: configFile({}) })).toMatchObject({
      source: "the environment",
      field: name,
      reason
    })
  })

  it("a variable that may hold a secret is not shown", async () => {
    vi.stubEnv("AICORTEX_PROXY", "s3cret pass")
    const error = await refusal({ configFile: configFile({}) })
    expect(error.message).not.toContain("s3cret")
    expect(error.field).toContain("AICORTEX_PROXY")
  })

  it("OLLAMA_NUM_PARALLEL=0 means automatic to Ollama: it sets nothing", async () => {
    vi.stubEnv("OLLAMA_NUM_PARALLEL", "0")
    expect((await held({ configFile: configFile({}) })).settings.parallel).toBeUndefined()
  })
})

describe("the settings of the gateway", () => {
  const variables: Record<string, string> = {
    HOST: "127.0.0.9",
    PORT: "81",
    DEFAULT_MODEL: "of-env",
    AICORTEX_API_KEY: "k"
  }
  const from = {
    variable: (name: string) => variables[name],
    file: { port: 82, drain: 5_000, keys: [{ name: "a", key: "x" }] },
    path: "f"
  }

  it("come from the options, then the environment, then the file", () => {
    const { places, settings } = Either.getOrThrow(resolvePlaces({ host: "::1" }, from))
    expect(settings).toMatchObject({ host: "::1", port: 81, defaultModel: "of-env", drain: 5_000, heartbeat: 10_000 })
    expect(settings.keys.map(({ name }) => name)).toEqual(["default"])
    expect([places.host, places.port, places.drain, places.keys].map((place) => place?.origin)).toEqual([
      "the options of the gateway",
      "PORT",
      "the file",
      "AICORTEX_API_KEY"
    ])
  })

  it("an error has the path of the setting", () => {
    const wrong = (options: object, more: object = {}) =>
      Either.getOrThrow(Either.flip(resolvePlaces(options, { ...from, ...more })))
    expect(wrong({ maxBody: 0 })).toMatchObject({ source: "the options of the gateway", field: "maxBody" })
    expect(wrong({ maxBodies: 1 })).toMatchObject({ field: "maxBodies", reason: expect.stringContaining("'maxBody'") })
    expect(wrong({}, { variable: () => "x y" })).toMatchObject({ source: "the environment", field: "PORT" })
    const file = { aliases: { a: "b", b: "a" } }
    expect(wrong({}, { variable: () => undefined, file })).toMatchObject({ source: "f", field: "gateway.aliases" })
  })
})
