import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { dirname, join } from "node:path"
import { parse as parseToml } from "smol-toml"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { parse as parseYaml } from "yaml"
import { bin, build, type Home, makeHome } from "../support/cliProcess.js"
import { commandHost } from "../support/commandHost.js"
import { useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"
import { hasTerminals, startTerminal } from "../support/terminal.js"

const fleet = useFleet()
beforeAll(build, 120_000)
const host = commandHost()
afterAll(host.stop)
const newHome = () => fleet.keep(makeHome({}))
/** The same as `home.run`, without a process for each. */
const runIn = async (home: Home, args: ReadonlyArray<string>, env?: NodeJS.ProcessEnv) => {
  const { code, stderr: err, stdout: out } = await host.run(args, home.environment(env))
  return { code, err, out }
}

const url = "http://127.0.0.1:8123"
const secret = "sk-very-secret-1"

/** Where each program reads its settings, in this home. */
const files: Readonly<Record<string, string>> = {
  claude: ".claude/settings.json",
  codex: ".codex/config.toml",
  continue: ".continue/config.yaml",
  opencode: "opencode/opencode.json",
  "open-webui": "compose.yaml"
}

const fileOf = (home: Home, program: string): string => join(home.path, files[program] ?? "")

/** Open WebUI's file stands in the folder of now, which is not the home's. */
const argsOf = (home: Home, program: string, ...more: ReadonlyArray<string>): ReadonlyArray<string> => [
  "setup",
  program,
  "--url",
  url,
  ...(program === "open-webui" ? ["--file", fileOf(home, program)] : []),
  ...more
]

const put = (home: Home, program: string, text: string): string => {
  const file = fileOf(home, program)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, text)
  return file
}

const copies = (file: string): ReadonlyArray<string> =>
  readdirSync(dirname(file)).filter((name) => name.endsWith(".bak"))

const model = { model: "qwen3:8b" }

describe("aicortex setup", () => {
  it.each(Object.keys(files))("writes what %s needs into a new file", async (program) => {
    const home = newHome()
    const { code, err, out } = await home.run(
      argsOf(home, program, "-m", "qwen3:8b", "--small-model", "qwen3:1b", "--yes")
    )
    expect({ code, err }).toEqual({ code: 0, err: expect.stringContaining("written: ") })
    const text = readFileSync(fileOf(home, program), "utf8")
    for (const line of text.trimEnd().split("\n")) expect(out).toContain(`+${line}`)
    const expected: Readonly<Record<string, () => void>> = {
      claude: () =>
        expect(JSON.parse(text)).toEqual({
          env: {
            ANTHROPIC_BASE_URL: url,
            ANTHROPIC_MODEL: "qwen3:8b",
            ANTHROPIC_DEFAULT_OPUS_MODEL: "qwen3:8b",
            ANTHROPIC_DEFAULT_SONNET_MODEL: "qwen3:8b",
            ANTHROPIC_DEFAULT_HAIKU_MODEL: "qwen3:1b",
            ANTHROPIC_AUTH_TOKEN: "not-needed"
          }
        }),
      codex: () =>
        expect(parseToml(text)).toEqual({
          ...model,
          model_provider: "aicortex",
          model_providers: {
            aicortex: {
              name: "aicortex",
              base_url: `${url}/v1`,
              wire_api: "responses",
              request_max_retries: 0,
              stream_max_retries: 0
            }
          }
        }),
      continue: () =>
        expect(parseYaml(text)).toEqual({
          name: "aicortex",
          version: "0.0.1",
          schema: "v1",
          models: [
            { name: "aicortex", provider: "ollama", ...model, apiBase: url, roles: ["chat", "edit", "apply"] },
            {
              name: "aicortex completion",
              provider: "ollama",
              model: "qwen3:1b",
              apiBase: url,
              roles: ["autocomplete"]
            }
          ]
        }),
      opencode: () =>
        expect(JSON.parse(text)).toEqual({
          $schema: "https://opencode.ai/config.json",
          model: "aicortex/qwen3:8b",
          small_model: "aicortex/qwen3:1b",
          provider: {
            aicortex: {
              npm: "@ai-sdk/openai-compatible",
              name: "aicortex",
              options: { baseURL: `${url}/v1`, apiKey: "not-needed" },
              models: { "qwen3:8b": { tool_call: true }, "qwen3:1b": { tool_call: true } }
            }
          }
        }),
      "open-webui": () =>
        expect(parseYaml(text).services["open-webui"]).toMatchObject({
          environment: { OLLAMA_BASE_URL: "http://host.docker.internal:8123" },
          extra_hosts: ["host.docker.internal:host-gateway"]
        })
    }
    expected[program]?.()
    expect(copies(fileOf(home, program))).toEqual([])
  })

  it.each(Object.keys(files))("changes nothing if %s is already set up", async (program) => {
    const home = newHome()
    await runIn(home, argsOf(home, program, "--yes"))
    const text = readFileSync(fileOf(home, program), "utf8")
    const again = await runIn(home, argsOf(home, program, "--yes"))
    expect(again).toMatchObject({ code: 0, out: expect.stringMatching(/ uses the gateway already: /) })
    expect(readFileSync(fileOf(home, program), "utf8")).toBe(text)
    expect(copies(fileOf(home, program))).toEqual([])
  })

  it.each([
    [
      "claude",
      '{\n    // mine\n    "permissions": { "allow": ["Read"] },\n    "env": { "OTHER": "1", },\n}\n',
      ["// mine", '"permissions": { "allow": ["Read"] }', '"OTHER": "1"']
    ],
    [
      "codex",
      '# mine\nmodel = "gpt-5" # the big one\napproval_policy = "never"\n\n# servers\n[mcp_servers.a]\ncommand = "x"\nargs = ["[b]"]\n\n[model_providers.other]\nname = "other"\n',
      ["# mine", 'approval_policy = "never"', "# servers\n[mcp_servers.a]", '[model_providers.other]\nname = "other"']
    ],
    [
      "codex",
      '[model_providers.aicortex]\nname = "old"\nbase_url = "http://old"\n\n# next\n[profiles.a]\nmodel = "x"\n',
      ['# next\n[profiles.a]\nmodel = "x"\n']
    ],
    [
      "continue",
      "name: me # mine\nmodels:\n  - name: other # keep\n    provider: openai\n    model: gpt-5\nrules:\n  - be short\n",
      ["name: me # mine", "- name: other # keep", "- be short"]
    ],
    [
      "opencode",
      '{\n\t"theme": "dark", // mine\n\t"provider": { "other": {} }\n}\n',
      ['"theme": "dark", // mine', '"other": {}']
    ],
    [
      "open-webui",
      "# mine\nservices:\n  db:\n    image: postgres\n  open-webui:\n    image: mine:1\n    environment:\n      - WEBUI_AUTH=false\n",
      ["# mine", "image: postgres", "image: mine:1", "- WEBUI_AUTH=false"]
    ]
  ])("keeps other settings of %s, and comments (%#)", async (program, before, kept) => {
    const home = newHome()
    const file = put(home, program, before)
    chmodSync(file, 0o640)
    const { code, err } = await runIn(home, argsOf(home, program, "--yes"))
    expect({ code, err }).toMatchObject({ code: 0 })
    const after = readFileSync(file, "utf8")
    for (const part of kept) expect(after).toContain(part)
    expect(after).toContain("8123")
    expect(after).not.toContain("http://old")
    expect(statSync(file).mode & 0o777).toBe(0o640)
    const [copy = ""] = copies(file)
    expect(readFileSync(join(dirname(file), copy), "utf8")).toBe(before)
    expect(err).toContain(copy)
    expect((await runIn(home, argsOf(home, program, "--yes"))).out).toContain("uses the gateway already")
  })

  it.each([
    ["claude", "{ nonsense"],
    ["claude", "[]"],
    ["codex", "model = = 1"],
    ["codex", 'model_providers = { aicortex = { name = "a" } }\n'],
    ["codex", "model = '''\nseveral\nlines'''\n"],
    ["continue", "models: 3\n"],
    ["continue", "a: [1\n"],
    ["opencode", '{ "provider": '],
    ["open-webui", "- a\n- b\n"]
  ])("does not touch a file of %s that it cannot change safely (%#)", async (program, before) => {
    const home = newHome()
    const file = put(home, program, before)
    const { code, err, out } = await runIn(home, argsOf(home, program, "--yes"))
    expect({ code, out }).toEqual({ code: 1, out: "" })
    expect(err).toContain(`${file} is not changed: `)
    expect(readFileSync(file, "utf8")).toBe(before)
    expect(copies(file)).toEqual([])
  })

  it.each(Object.keys(files))("names the variable of the key to %s, and writes no key", async (program) => {
    const home = newHome()
    const args = argsOf(home, program, "--yes", "--key-env", "GATEWAY_KEY")
    const { err, out } = await runIn(home, args, { GATEWAY_KEY: secret })
    const text = readFileSync(fileOf(home, program), "utf8")
    expect(text).toContain("GATEWAY_KEY")
    expect(text).not.toContain("not-needed")
    expect(text + out + err).not.toContain(secret)
    // And back.
    await runIn(home, argsOf(home, program, "--yes"))
    if (program !== "open-webui") expect(readFileSync(fileOf(home, program), "utf8")).not.toContain("GATEWAY_KEY")
  })

  it("only shows the changes if it cannot ask", async () => {
    const home = newHome()
    const { code, err, out } = await runIn(home, argsOf(home, "codex"))
    expect(code).toBe(0)
    expect(out).toContain('+model_provider = "aicortex"')
    expect(err).toContain("nothing was written: --yes writes it")
    expect(existsSync(fileOf(home, "codex"))).toBe(false)
  })

  it("prints JSON for programs", async () => {
    const home = newHome()
    const file = put(home, "opencode", '{ "theme": "dark" }\n')
    const shown = JSON.parse((await runIn(home, argsOf(home, "opencode", "--json"))).out)
    expect(shown).toMatchObject({ program: "opencode", file, changed: true, written: false, backup: null })
    expect(readFileSync(file, "utf8")).toBe('{ "theme": "dark" }\n')
    const written = JSON.parse((await runIn(home, argsOf(home, "opencode", "--json", "--yes"))).out)
    expect(written).toMatchObject({ written: true, backup: expect.stringContaining(".bak") })
    expect(readFileSync(file, "utf8")).toBe(written.text)
  })

  it("follows a symbolic link, which is kept", async () => {
    const home = newHome()
    const real = home.write("dotfile.json", "{}\n")
    const file = fileOf(home, "claude")
    mkdirSync(dirname(file), { recursive: true })
    symlinkSync(real, file)
    expect((await runIn(home, argsOf(home, "claude", "--yes"))).code).toBe(0)
    expect(lstatSync(file).isSymbolicLink()).toBe(true)
    expect(readFileSync(real, "utf8")).toContain(url)
  })

  it("keeps line ends and a byte order mark", async () => {
    const home = newHome()
    const file = put(home, "claude", '\uFEFF{\r\n  "a": 1\r\n}\r\n')
    await runIn(home, argsOf(home, "claude", "--yes"))
    const text = readFileSync(file, "utf8")
    expect(text.startsWith("\uFEFF{\r\n")).toBe(true)
    expect(text.replaceAll("\r\n", "")).not.toContain("\n")
    const codex = put(home, "codex", 'a = "b"\r\n')
    await runIn(home, argsOf(home, "codex", "--yes"))
    expect(readFileSync(codex, "utf8").replaceAll("\r\n", "")).not.toContain("\n")
  })

  it("takes the gateway's address from the settings, in any form", async () => {
    const home = fleet.keep(makeHome({ gateway: { host: "0.0.0.0", port: 8765 } }))
    expect((await runIn(home, ["setup", "codex"])).out).toContain('base_url = "http://127.0.0.1:8765/v1"')
    for (const [given, address] of [
      ["gateway:9000", "http://gateway:9000"],
      ["gateway", "http://gateway:8000"],
      ["https://ai.example.org/v1/", "https://ai.example.org"],
      ["http://u:p@gateway:1/", "http://gateway:1"]
    ]) {
      expect((await runIn(home, ["setup", "codex", "--url", given ?? ""])).out).toContain(`base_url = "${address}/v1"`)
    }
  })

  it.each([
    [["setup", "emacs"], "PROGRAM must be one of claude, codex, continue, open-webui, opencode, not 'emacs'"],
    [["setup", "codex", "--key-env", secret], "--key-env must be the name of an environment variable"],
    [["setup", "codex", "--model", "a b"], "--model must be the name of a model"],
    [["setup", "codex", "--url", "ftp://x"], "--url: "]
  ])("refuses %j before anything is read", async (args, message) => {
    const { code, err, out } = await runIn(newHome(), args)
    expect({ code, out }).toEqual({ code: 2, out: "" })
    expect(err).toContain(message)
    expect(err).not.toContain(secret)
  })

  it("reports problems: no gateway, no key, a wrong key, a missing model", async () => {
    const home = newHome()
    const server = await fleet.ollama({ models: ["a:1b"] })
    await using gateway = await startGateway([server.url], { keys: [{ name: "k", key: secret }] })
    const errors = async (args: ReadonlyArray<string>, env?: NodeJS.ProcessEnv, at = gateway.url) =>
      (await runIn(home, ["setup", "codex", "--url", at, ...args], env)).err
    expect(await errors([])).toContain("the gateway wants a key: name the variable that holds it with --key-env")
    expect(await errors(["--key-env", "K"])).toContain("does not take the key in K, which is not set here")
    expect(await errors(["--key-env", "K"], { K: "wrong" })).toContain("does not take the key in K")
    expect(await errors(["--key-env", "K", "-m", "b:1b"], { K: secret })).toContain("has no model 'b:1b' now")
    const right = await errors(["--key-env", "K", "-m", "a:1b"], { K: secret })
    expect(right).not.toMatch(/has no model|does not take|no gateway/)
    await gateway.close()
    expect(await errors([])).toContain(`no gateway answers at ${gateway.url} now`)
  })

  describe.skipIf(!hasTerminals)("on a terminal", () => {
    it.each([
      ["y", true],
      ["yes", true],
      ["n", false],
      ["", false]
    ])("writes on '%s': %s", async (answer, written) => {
      const home = newHome()
      const terminal = startTerminal([process.execPath, bin, ...argsOf(home, "claude")], {
        env: { PATH: process.env["PATH"], HOME: home.path, XDG_CONFIG_HOME: home.path, TERM: "xterm" },
        columns: 120
      })
      await terminal.shows("Write it? [y/N]")
      expect(terminal.screen()).toContain("ANTHROPIC_BASE_URL")
      terminal.type(`${answer}\r`)
      expect(await terminal.ended).toBe(0)
      expect(existsSync(fileOf(home, "claude"))).toBe(written)
      expect(terminal.screen()).toContain(written ? "written: " : "nothing was written")
    })
  })
})
