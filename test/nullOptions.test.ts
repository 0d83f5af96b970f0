import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Either from "effect/Either"
import { afterAll, describe, expect, it } from "vitest"
import * as ChatRequest from "../src/ChatRequest.js"
import { File } from "../src/config/file.js"
import * as EmbedRequest from "../src/EmbedRequest.js"
import { failure, model, useFleet } from "./support/fleet.js"

const fleet = useFleet()
const folder = mkdtempSync(join(tmpdir(), "aicortex-null-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe("null means that an option is not given", () => {
  it.each(Object.keys(ChatRequest.Options.fields))("chat: %s", (name) => {
    expect(ChatRequest.decodeOptions({ [name]: null, seed: 1, ...(name === "seed" ? { seed: null } : {}) })).toEqual(
      Either.right(name === "seed" ? {} : { seed: 1 })
    )
  })

  it.each(Object.keys(EmbedRequest.Options.fields).filter((name) => name !== "model"))("embed: %s", (name) => {
    expect(EmbedRequest.decodeOptions({ model, [name]: null })).toEqual(Either.right({ model }))
  })

  it("inside tools and policies too, but not inside what is sent as it is", () => {
    const sent = { options: { stop: null }, tools: [{ name: "t", parameters: { default: null } }] }
    const tools = [{ name: "t", description: null, strict: null, parameters: { default: null } }]
    expect(ChatRequest.decodeOptions({ ...sent, tools, cache: { ttl: null } })).toEqual(
      Either.right({ ...sent, cache: {} })
    )
  })

  it("control: what is needed is still missed, and what is unknown is still refused", async () => {
    for (const options of [{ tools: [{ name: null }] }, { hedge: { after: null } }, { temprature: null }, null]) {
      expect(Either.isLeft(ChatRequest.decodeOptions(options))).toBe(true)
    }
    expect(Either.isLeft(EmbedRequest.decodeOptions({ model: null }))).toBe(true)
  })

  it.each(Object.keys(File.fields))("the configuration file: %s", async (name) => {
    const server = await fleet.ollama()
    const configFile = join(mkdtempSync(join(folder, "c-")), "config.json")
    writeFileSync(
      configFile,
      JSON.stringify({
        servers: [{ url: server.url, weight: null, location: null }],
        [name]: name === "servers" ? [{ url: server.url, apiKey: null, headers: null }] : null
      })
    )
    expect(await fleet.cortex([server], { configFile }).chat("Hi")).not.toBe("")
  })

  it("control: a list in the file with null is refused", async () => {
    const configFile = join(mkdtempSync(join(folder, "c-")), "config.json")
    writeFileSync(configFile, JSON.stringify({ servers: [null] }))
    expect(await failure(fleet.cortex([], { configFile }).chat("Hi"))).toMatchObject({ _tag: "InvalidConfig" })
  })
})
