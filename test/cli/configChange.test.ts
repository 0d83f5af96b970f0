import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { beforeAll, describe, expect, it } from "vitest"
import { build, makeHome } from "../support/cliProcess.js"
import { unusedPort } from "../support/fakeServer.js"
import { useFleet } from "../support/fleet.js"

const fleet = useFleet()
beforeAll(build, 120_000)
const homeWith = (config?: unknown) => fleet.keep(makeHome(config))
const contentOf = (file: string): unknown => JSON.parse(readFileSync(file, "utf8"))

describe("aicortex config set, get, unset and path", () => {
  it("changes one setting of the file and leaves the others as they are", async () => {
    const home = homeWith({ servers: [], gateway: { port: 81 }, personas: { pirate: "Arr." } })
    const set = (key: string, value: string) => home.run(["config", "set", key, value])
    for (const [key, value] of [
      ["model", "b:1b"],
      ["discoveryTtl", "20"],
      ["defaults.temperature", "0.2"],
      ["defaults.options.num_ctx", "4096"],
      ["aliases.gpt-4.1", "b:1b"],
      ["aliases.best", '["a:1b", "b:1b"]'],
      ["personas.short", "7"],
      ["gateway.host", "::1"]
    ] as const) {
      expect(await set(key, value)).toEqual({ code: 0, out: `Set ${key} in ${home.file}.\n`, err: "" })
    }
    expect(contentOf(home.file)).toEqual({
      servers: [],
      gateway: { port: 81, host: "::1" },
      personas: { pirate: "Arr.", short: "7" },
      model: "b:1b",
      discoveryTtl: 20,
      defaults: { temperature: 0.2, options: { num_ctx: 4096 } },
      aliases: { "gpt-4.1": "b:1b", best: ["a:1b", "b:1b"] }
    })
    const get = async (...args: ReadonlyArray<string>) => (await home.run(["config", "get", ...args])).out
    expect(await get("model")).toBe("b:1b\n")
    expect(await get("discoveryTtl")).toBe("20\n")
    expect(await get("defaults.temperature", "--json")).toBe("0.2\n")
    expect(await get("gateway.port")).toBe("81\n")
    expect(JSON.parse(await get("aliases"))).toEqual({ "gpt-4.1": ["b:1b"], best: ["a:1b", "b:1b"] })
    for (const key of [
      "aliases.gpt-4.1",
      "aliases.best",
      "defaults.temperature",
      "defaults.options.num_ctx",
      "model"
    ]) {
      expect((await home.run(["config", "unset", key])).code).toBe(0)
    }
    expect(contentOf(home.file)).toEqual({
      servers: [],
      gateway: { port: 81, host: "::1" },
      personas: { pirate: "Arr.", short: "7" },
      discoveryTtl: 20
    })
    expect(await home.run(["config", "unset", "model"])).toMatchObject({
      code: 1,
      err: expect.stringContaining("does not set model")
    })
    expect((await home.run(["config", "path"])).out).toBe(`${home.file}\n`)
  }, 120_000)

  it("refuses invalid values, and changes nothing", async () => {
    const home = homeWith({ servers: [], model: "a:1b" })
    for (const [key, value, words] of [
      ["discoveryTtl", "soon", "discoveryTtl: must be"],
      ["defaults.temperature", "9", "defaults.temperature"],
      ["modle", "b:1b", "did you mean 'model'?"],
      ["gateway.prot", "1", "did you mean 'gateway.port'?"],
      ["gateway.port", "70000", "must be a whole number from 0 to 65535"]
    ] as const) {
      const { code, err } = await home.run(["config", "set", key, value])
      expect([key, code, err]).toEqual([key, 2, expect.stringContaining(words)])
    }
    expect((await home.run(["config", "set", "model"])).code).toBe(2)
    expect(contentOf(home.file)).toEqual({ servers: [], model: "a:1b" })
  }, 120_000)

  it.skipIf(!existsSync("/sys"))("says that the file cannot be written, and why", async () => {
    const there = homeWith()
    for (const args of [
      ["config", "set", "model", "b:1b"],
      ["servers", "add", "http://127.0.0.1:9"]
    ]) {
      const { code, err } = await there.run(args, { XDG_CONFIG_HOME: "/sys/a" })
      expect(code).toBe(1)
      expect(err).toMatch(
        /^aicortex: The configuration file \/sys\/a\/aicortex\/config\.json cannot be used: it cannot be written: E(PERM|ROFS|ACCES): /
      )
    }
  })

  it("creates the file, says when the environment overrides it, and shows no key", async () => {
    const home = homeWith()
    const overridden = await home.run(["config", "set", "model", "a:1b"], { AICORTEX_MODEL: "b:1b" })
    expect(overridden).toMatchObject({ code: 0, err: "aicortex: AICORTEX_MODEL is set, and overrides the file\n" })
    expect((await home.run(["config", "get", "model"], { AICORTEX_MODEL: "b:1b" })).out).toBe("b:1b\n")
    expect((await home.run(["config", "get", "model"])).out).toBe("a:1b\n")
    const secret = '[{"url": "http://127.0.0.1:1", "apiKey": "sk-secret"}]'
    const set = await home.run(["config", "set", "servers", secret])
    const get = await home.run(["config", "get", "servers"])
    expect([set.code, get.code, `${set.out}${set.err}${get.out}`.includes("sk-secret")]).toEqual([0, 0, false])
    expect(JSON.parse(get.out)).toMatchObject([{ url: "http://127.0.0.1:1", key: true }])
  })
})

describe("aicortex config edit", () => {
  const withEditor = (config: unknown, script: string) => {
    const home = homeWith(config)
    const editor = join(home.path, "editor")
    writeFileSync(editor, `#!/bin/sh\n${script}\n`)
    chmodSync(editor, 0o755)
    return { home, run: () => home.run(["config", "edit"], { EDITOR: `${editor} --wait` }) }
  }

  it("saves a valid file only", async () => {
    const { home, run } = withEditor({ servers: [] }, `echo '{ "servers": [], "model": "a:1b" }' > "$2"`)
    expect(await run()).toEqual({ code: 0, out: `Saved ${home.file}.\n`, err: "" })
    expect(contentOf(home.file)).toEqual({ servers: [], model: "a:1b" })
  })

  it.each([
    ["what cannot be used", `echo '{ "modle": 7 }' > "$2"`, /was not changed: .*; your text is in (\S+)\n/],
    ["no JSON", `echo '{' > "$2"`, /was not changed: .*; your text is in (\S+)\n/],
    ["an editor that fails", "exit 3", /failed \(exit code 3\)/]
  ])(
    "leaves the file as it is after %s",
    async (_, script, words) => {
      const { home, run } = withEditor({ servers: [], model: "a:1b" }, script)
      const { code, err } = await run()
      expect([code, err]).toEqual([1, expect.stringMatching(words)])
      expect(contentOf(home.file)).toEqual({ servers: [], model: "a:1b" })
      const draft = words.exec(err)?.[1]
      if (draft !== undefined) expect(readFileSync(draft, "utf8")).not.toBe("")
    },
    60_000
  )
})

describe("aicortex use", () => {
  it("sets a model that a server has as the default", async () => {
    for (const protocol of ["ollama", "openai"] as const) {
      const server = await fleet[protocol]({ models: ["a:1b", "b:7b"], reply: "Well said." })
      const home = homeWith({ servers: [server.url], aliases: { small: "a:1b" } })
      for (const name of ["a:1b", "small", `${protocol}:a:1b`]) {
        expect(await home.run(["use", name])).toMatchObject({ code: 0, err: "" })
        expect(contentOf(home.file)).toMatchObject({ model: name, servers: [server.url] })
        const answer = await home.run(["chat", "Hi"])
        expect(answer).toEqual({ code: 0, out: "Well said.\n", err: "" })
        expect(server.chatRequests.at(-1)?.body.model).toBe("a:1b")
      }
      expect((await home.run(["use", "auto"])).code).toBe(0)
      // What an Ollama has loaded goes before what it would have to load.
      expect((await home.run(["use"])).out).toBe(protocol === "ollama" ? "a:1b\n" : "b:7b\n")
    }
  }, 180_000)

  it("refuses a model that no server has, and accepts one that cannot be checked", async () => {
    const server = await fleet.ollama({ models: ["tiny:1b"] })
    const home = homeWith({ servers: [server.url] })
    const wrong = await home.run(["use", "tini:1b"])
    expect(wrong).toMatchObject({ code: 1, err: expect.stringContaining("Did you mean tiny:1b?") })
    expect(contentOf(home.file)).toEqual({ servers: [server.url] })
    const gone = `http://127.0.0.1:${await unusedPort()}`
    const dead = homeWith({ servers: [gone] })
    const unsure = await dead.run(["use", "tini:1b"])
    expect(unsure).toMatchObject({ code: 0, err: expect.stringContaining(`${gone} cannot be reached`) })
    expect(contentOf(dead.file)).toEqual({ servers: [gone], model: "tini:1b" })
  })
})
