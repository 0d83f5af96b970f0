/** `serverCooldown`, and AI Cortex's names for it, in every place that a setting can be given. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import { afterAll, afterEach, describe, expect, it, vi } from "vitest"
import * as Cortex from "../../src/Cortex.js"
import { type ConfigOptions, resolve } from "../../src/config/resolve.js"
import * as Settings from "../../src/Settings.js"
import { failure, inOrder, useFleet } from "../support/fleet.js"

const fakes = useFleet()
const folder = mkdtempSync(join(tmpdir(), "aicortex-cooldown-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
afterEach(() => vi.unstubAllEnvs())

let files = 0
const configFile = (content: object) => {
  files += 1
  const file = join(folder, `${files}.json`)
  writeFileSync(file, JSON.stringify(content))
  return file
}

const resolved = async (options: ConfigOptions) =>
  Either.map(
    await Effect.runPromise(Effect.either(Effect.provide(resolve(options), NodeContext.layer))),
    ({ places, settings }) => [settings.serverCooldown, places.serverCooldown?.origin]
  )
const held = async (options: ConfigOptions) => Either.getOrThrow(await resolved(options))
const refusal = async (options: ConfigOptions) => Either.getOrThrow(Either.flip(await resolved(options)))

const names = ["serverCooldown", "cacheTtl"] as const
const variables = ["AICORTEX_SERVER_COOLDOWN", "AICORTEX_CACHE_TTL"] as const

describe("serverCooldown: how long a failed server rests", () => {
  it.each(names)("is %s, as an option and in the file", async (name) => {
    expect(await held({ [name]: 7, configFile: false })).toEqual([7, "the options"])
    expect(await held({ configFile: configFile({ [name]: 7 }) })).toEqual([7_000, "the file"])
  })

  it.each(variables)("is %s in the environment, in seconds", async (variable) => {
    vi.stubEnv(variable, "2")
    expect(await held({ configFile: configFile({ cacheTtl: 3 }) })).toEqual([2_000, variable])
    vi.stubEnv(variable, "soon")
    expect(await refusal({ configFile: configFile({}) })).toMatchObject({ field: variable })
  })

  it.each(names.flatMap((option) => variables.map((variable) => [option, variable] as const)))(
    "comes from the option %s before %s",
    async (option, variable) => {
      vi.stubEnv(variable, "2")
      expect(await held({ [option]: 7, configFile: configFile({ serverCooldown: 3 }) })).toEqual([7, "the options"])
    }
  )

  it("comes from the variable of its own name if both are set", async () => {
    vi.stubEnv("AICORTEX_CACHE_TTL", "3")
    vi.stubEnv("AICORTEX_SERVER_COOLDOWN", "2")
    expect(await held({ configFile: configFile({}) })).toEqual([2_000, "AICORTEX_SERVER_COOLDOWN"])
  })

  it("is a minute by default", async () => {
    expect(await held({ configFile: configFile({}) })).toEqual([60_000, undefined])
  })

  it.each(names)("is refused out of range with the name that was used: %s", async (name) => {
    expect(await refusal({ [name]: 0, configFile: false })).toMatchObject({ source: "the options", field: name })
    expect(await refusal({ configFile: configFile({ [name]: -1 }) })).toMatchObject({ field: name })
  })

  it("is refused if one source sets both names", async () => {
    const twice = { serverCooldown: 5, cacheTtl: 5 }
    const expected = { field: "cacheTtl", reason: "is another name of 'serverCooldown': give only one of them" }
    expect(await refusal({ ...twice, configFile: false })).toMatchObject({ source: "the options", ...expected })
    const file = configFile(twice)
    expect(await refusal({ configFile: file })).toMatchObject({ source: file, ...expected })
    // A null is as good as nothing.
    const nothing = null as unknown as undefined
    expect(await held({ serverCooldown: nothing, cacheTtl: 5, configFile: false })).toEqual([5, "the options"])
  })

  it("only the current name is suggested", async () => {
    const { reason } = await refusal({ serverCoolDown: 1, configFile: false } as ConfigOptions)
    expect(reason).toContain("did you mean 'serverCooldown'?")
    const unknown = await refusal({ zzzzzzzzzzzzzzz: 1, configFile: false } as ConfigOptions)
    expect(unknown.reason).not.toContain("cacheTtl")
  })

  it.each(names)("comes from a program's own configuration as %s", async (name) => {
    const layer = Layer.provide(
      Cortex.layerConfig({ [name]: Config.integer("COOLDOWN"), configFile: Config.succeed<false>(false) }),
      Layer.setConfigProvider(ConfigProvider.fromMap(new Map([["COOLDOWN", "42"]])))
    )
    const { serverCooldown } = await Effect.runPromise(Effect.provide(Settings.CurrentSettings, layer))
    expect(serverCooldown).toBe(42)
  })
})

describe.each(["ollama", "openai"] as const)("servers that fail, over %s", (protocol) => {
  it.each(names)("rest for %s", async (name) => {
    const [a, b] = await Promise.all([fakes[protocol](), fakes[protocol]()])
    const cortex = (ms: number) => fakes.cortex(inOrder(a, b), { [name]: ms })
    const short = cortex(1)
    const long = cortex(600_000)
    await Promise.all([short.listServers(), long.listServers()])
    await a.setBehaviour({
      faults: [
        { kind: "status", code: 500 },
        { kind: "status", code: 500 }
      ]
    })
    expect((await short.complete("Hi")).server).toBe(b.url)
    expect((await long.complete("Hi")).server).toBe(b.url)
    await expect.poll(() => short.complete("Hi").then(({ server }) => server), { timeout: 10_000 }).toBe(a.url)
    expect((await long.complete("Hi")).server).toBe(b.url)
  })

  it("an invalid one rejects the Promise functions", async () => {
    expect(await failure(fakes.cortex([], { cacheTtl: -1 }).complete("Hi"))).toMatchObject({
      _tag: "InvalidConfig",
      field: "cacheTtl"
    })
  })
})
