import { spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { bin, build, ended } from "../support/cliProcess.js"
import { failure, model, useFleet } from "../support/fleet.js"

const fleet = useFleet()

describe("nearest without coordinates", () => {
  it.each([
    [{ country: "DE" }, { country: "JP" }],
    [{ city: "Frankfurt", country: "Germany" }, { city: "Tokyo" }],
    [{ city: "Nowhere an der Spree", country: "Deutschland" }, { countryName: "Japan" }],
    [{ country: "DEU" }, { city: "Tokyo", country: "JPN" }]
  ])("from Berlin the nearest is %j, not %j", async (near, far) => {
    const [a, b] = await Promise.all([fleet.ollama(), fleet.openai()])
    for (const location of [{ city: "Berlin" }, { city: "Berlin", country: "DE" }, { country: "germany" }]) {
      const cortex = fleet.cortex(
        [
          { url: b.url, location: far },
          { url: a.url, location: near }
        ],
        { location }
      )
      expect((await cortex.bestServer(model, { strategy: "nearest" })).url).toBe(a.url)
    }
  })

  it.each([
    [{ country: "Germani" }, "Germany"],
    [{ city: "Berlim" }, "Berlin"]
  ])("an unknown own location is refused: %j", async (location, suggestion) => {
    const error = await failure(fleet.cortex([await fleet.ollama()], { location }).chat("Hi"))
    expect(error).toMatchObject({ _tag: "InvalidConfig", field: "location" })
    expect(error.message).toContain(suggestion)
  })
})

describe("a location as text", () => {
  it.each([
    ["Germany", "Japan"],
    ["Berlin", "Tokyo"],
    ["Frankfurt, DE", "Tokyo, Japan"],
    ["50.11, 8.68", "35.68,139.69"],
    ["DE", "usa"]
  ])("from %s the server in Munich is nearer than that in %s", async (location, far) => {
    const [a, b] = await Promise.all([fleet.ollama(), fleet.openai()])
    const servers = [
      { url: b.url, location: far },
      { url: a.url, location: "Munich" }
    ]
    const cortex = fleet.cortex(servers, { location })
    const best = await cortex.bestServer(model, { strategy: "nearest" })
    expect(best).toMatchObject({ url: a.url, location: { city: "Munich" } })
    // Coordinates that were looked up are not reported as configured.
    expect(best.location).toEqual({ city: "Munich" })
  })

  it.each(["91,0", "1,2,3", "Berlin,", "Germani", "52.52,east"])("'%s' is refused", async (location) => {
    const error = await failure(fleet.cortex([await fleet.ollama()], { location }).chat("Hi"))
    expect(error).toMatchObject({ _tag: "InvalidConfig", field: "location" })
  })

  it.each(["91,0", "Berlin,"])("'%s' is refused for a server too", async (location) => {
    const { url } = await fleet.ollama()
    const error = await failure(fleet.cortex([{ url, location }]).chat("Hi"))
    expect(error).toMatchObject({ _tag: "InvalidConfig", field: "servers.location" })
  })
})

const folder = mkdtempSync(join(tmpdir(), "aicortex-places-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const configured = (content: object): string => {
  const file = join(mkdtempSync(join(folder, "config-")), "config.json")
  writeFileSync(file, JSON.stringify(content))
  return file
}

describe("sources of locations", () => {
  it("records of a registry have a country or a city", async () => {
    const [near, far, unknown] = await Promise.all([fleet.ollama(), fleet.ollama(), fleet.ollama()])
    const record = (url: string, place: object) => ({ url, models: [model], ...place })
    const over = (servers: ReadonlyArray<object>) => {
      const registry = mkdtempSync(join(folder, "registry-"))
      writeFileSync(join(registry, "servers.json"), JSON.stringify({ servers }))
      return fleet.cortex([], { registry, location: "Berlin", bestServerTtl: 1 })
    }
    const placed = [
      record(far.url, { ip_city_name_en: "Tokyo", ip_country_name_en: "Japan" }),
      record(near.url, { ip_country_iso_code: "DE" })
    ]
    const two = over(placed)
    // One that has answered goes before one that has not yet.
    const best = async () => (await two.bestServer(model, { strategy: "nearest" })).url
    await expect.poll(best, { timeout: 10_000 }).toBe(near.url)
    // An unknown place keeps its name, and the server is used.
    const nowhere = record(unknown.url, { ip_city_name_en: "Nowhere at all", ip_country_iso_code: "ZZ" })
    const listed = await over([nowhere, ...placed]).listModelServers(model)
    expect(listed.find(({ url }) => url === unknown.url)?.location).toEqual({ city: "Nowhere at all", country: "ZZ" })
    expect(listed.find(({ url }) => url === near.url)?.location).toEqual({ country: "DE" })
  })

  const run = async (args: ReadonlyArray<string>, env: { readonly [name: string]: string }) => {
    const { PATH = "" } = process.env
    const child = spawn(process.execPath, [bin, ...args], { env: { PATH, HOME: folder, ...env } })
    const { code, err: stderr, out: stdout } = await ended(child)
    return { code, stdout, stderr }
  }

  beforeAll(build, 120_000)

  it.each([
    ["AICORTEX_LOCATION", { AICORTEX_LOCATION: "Berlin" }, "Japan"],
    ["the file", {}, "Berlin"],
    ["the file", {}, { city: "Berlin" }]
  ])("%s may set the user's location", async (from, env, location) => {
    const [near, far] = await Promise.all([fleet.ollama(), fleet.openai()])
    const servers = [
      { url: far.url, location: "Tokyo" },
      { url: near.url, location: { country: "Germany" } }
    ]
    const AICORTEX_CONFIG = configured({ servers, location })
    const all = { ...env, AICORTEX_CONFIG }
    const best = await run(["best", model, "--strategy", "nearest", "--json"], all)
    expect(best.stderr).toBe("")
    expect(JSON.parse(best.stdout)).toMatchObject({ url: near.url })
    const [shown, json] = await Promise.all([run(["config"], all), run(["config", "--json"], all)])
    expect(shown.stdout).toMatch(new RegExp(`^location +Berlin \\(about 52\\.52,13\\.4\\d*\\) +${from}$`, "m"))
    const { settings } = JSON.parse(json.stdout)
    expect(settings.location).toEqual({ city: "Berlin" })
    expect(settings.coordinates.latitude).toBeCloseTo(52.5, 0)
  })

  it("`servers add --location` takes a name, and refuses an unknown one", async () => {
    const AICORTEX_CONFIG = configured({})
    const server = await fleet.ollama()
    const added = await run(["servers", "add", server.url, "--location", "Berlin, DE"], { AICORTEX_CONFIG })
    expect(added).toMatchObject({ code: 0 })
    expect(JSON.parse(readFileSync(AICORTEX_CONFIG, "utf8")).servers).toEqual([
      { url: server.url, location: { city: "Berlin", country: "DE" } }
    ])
    const refused = await run(["servers", "add", "http://127.0.0.1:1", "--location", "Berlim"], { AICORTEX_CONFIG })
    expect(refused.code).toBe(2)
    expect(refused.stderr).toContain("did you mean 'Berlin'")
    const unknown = await run(["config"], { AICORTEX_CONFIG, AICORTEX_LOCATION: "Berlim" })
    expect(unknown.stderr).toContain("the environment: AICORTEX_LOCATION: no city 'Berlim' is known")
  })
})
