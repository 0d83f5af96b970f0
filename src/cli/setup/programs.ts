/** What each program needs in its settings to use the gateway. */
import { existsSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"
import * as Jsonc from "jsonc-parser"
import * as Yaml from "yaml"
import { environment } from "../../cortex/environment.js"
import * as Toml from "./toml.js"

/** Where the gateway is, and what is asked of it. */
export interface Target {
  /** Without a slash at its end. */
  readonly url: string
  readonly model: string
  readonly smallModel: string
  /** The environment variable that holds the key; `undefined` where the gateway wants none. */
  readonly keyEnv: string | undefined
}

/** A program whose settings are known. */
export interface Program {
  /** As people call it. */
  readonly title: string
  /** The file that it reads. */
  readonly file: () => string
  /** The text of the file with the gateway in it. Throws where the text cannot be read. */
  readonly change: (text: string, target: Target) => string
  /** What is left to do, a sentence each. */
  readonly next: (target: Target) => ReadonlyArray<string>
}

const inHome = (...parts: ReadonlyArray<string>): string => join(homedir(), ...parts)

const firstOf = (files: readonly [string, ...ReadonlyArray<string>]): string =>
  files.find((file) => existsSync(file)) ?? files[0]

/** Where no key is wanted, programs that insist on one get this. */
const noKey = "not-needed"

const exported = ({ keyEnv }: Target): ReadonlyArray<string> =>
  keyEnv === undefined ? [] : [`The key is read from ${keyEnv} when it starts: export it there.`]

// =============================================================================
// JSON with comments
// =============================================================================

type JsonPath = ReadonlyArray<string>

/** `undefined` removes a value. */
const changeJson = (text: string, changes: ReadonlyArray<readonly [path: JsonPath, value: unknown]>): string => {
  const errors: Array<Jsonc.ParseError> = []
  let rest = text.trim() === "" ? "{}\n" : text
  const root: unknown = Jsonc.parse(rest, errors, { allowTrailingComma: true })
  const [error] = errors
  if (error !== undefined) {
    const before = rest.slice(0, error.offset).split("\n")
    throw new Error(`line ${before.length}: ${Jsonc.printParseErrorCode(error.error)}`)
  }
  if (typeof root !== "object" || root === null || Array.isArray(root)) throw new Error("it is not a JSON object")
  const indent = /^([ \t]+)"/m.exec(rest)?.[1] ?? "  "
  const formattingOptions = {
    insertSpaces: indent[0] === " ",
    tabSize: indent[0] === " " ? indent.length : 1,
    eol: rest.includes("\r\n") ? "\r\n" : "\n"
  }
  for (const [path, value] of changes) {
    const node = Jsonc.parseTree(rest, [], { allowTrailingComma: true })
    const found = node && Jsonc.findNodeAtLocation(node, [...path])
    if (
      value === undefined
        ? found === undefined
        : found && JSON.stringify(Jsonc.getNodeValue(found)) === JSON.stringify(value)
    ) {
      continue
    }
    rest = Jsonc.applyEdits(rest, Jsonc.modify(rest, [...path], value, { formattingOptions }))
  }
  return rest
}

// =============================================================================
// YAML
// =============================================================================

const parseYaml = (text: string): Yaml.Document => {
  const document: Yaml.Document = Yaml.parseDocument(text)
  const [error] = document.errors
  if (error !== undefined) throw new Error(error.message.split("\n")[0])
  if (document.contents === null) return new Yaml.Document({})
  if (!Yaml.isMap(document.contents)) throw new Error("it is not a YAML mapping")
  return document
}

const yamlText = (text: string, document: Yaml.Document): string => {
  if (text.trim() !== "" && JSON.stringify(Yaml.parse(text)) === JSON.stringify(document.toJS())) return text
  const after = document.toString({ lineWidth: 0, flowCollectionPadding: false })
  return text.includes("\r\n") ? after.replace(/\r?\n/g, "\r\n") : after
}

// =============================================================================
// Programs
// =============================================================================

const claude: Program = {
  title: "Claude Code",
  file: () => join(environment("CLAUDE_CONFIG_DIR") ?? inHome(".claude"), "settings.json"),
  change: (text, { keyEnv, model, smallModel, url }) =>
    changeJson(text, [
      [["env", "ANTHROPIC_BASE_URL"], url],
      [["env", "ANTHROPIC_MODEL"], model],
      [["env", "ANTHROPIC_DEFAULT_OPUS_MODEL"], model],
      [["env", "ANTHROPIC_DEFAULT_SONNET_MODEL"], model],
      [["env", "ANTHROPIC_DEFAULT_HAIKU_MODEL"], smallModel],
      [["env", "ANTHROPIC_AUTH_TOKEN"], keyEnv === undefined ? noKey : undefined],
      [["apiKeyHelper"], keyEnv === undefined ? undefined : `printenv ${keyEnv}`]
    ]),
  next: (target) => [...exported(target), "Then: claude"]
}

const codex: Program = {
  title: "Codex",
  file: () => join(environment("CODEX_HOME") ?? inHome(".codex"), "config.toml"),
  change: (text, { keyEnv, model, url }) =>
    Toml.change(text, { model, model_provider: "aicortex" }, ["model_providers", "aicortex"], {
      name: "aicortex",
      base_url: `${url}/v1`,
      wire_api: "responses",
      ...(keyEnv === undefined ? {} : { env_key: keyEnv }),
      // The gateway retries, and goes on with streams that broke.
      request_max_retries: 0,
      stream_max_retries: 0
    }),
  next: (target) => [...exported(target), "Then: codex"]
}

const opencodeFolder = (): string => join(environment("XDG_CONFIG_HOME") ?? inHome(".config"), "opencode")

const opencode: Program = {
  title: "opencode",
  file: () => firstOf([join(opencodeFolder(), "opencode.json"), join(opencodeFolder(), "opencode.jsonc")]),
  change: (text, { keyEnv, model, smallModel, url }) =>
    changeJson(text, [
      ...(text.trim() === "" ? [[["$schema"], "https://opencode.ai/config.json"] as const] : []),
      [["model"], `aicortex/${model}`],
      [["small_model"], `aicortex/${smallModel}`],
      [["provider", "aicortex", "npm"], "@ai-sdk/openai-compatible"],
      [["provider", "aicortex", "name"], "aicortex"],
      [["provider", "aicortex", "options", "baseURL"], `${url}/v1`],
      [["provider", "aicortex", "options", "apiKey"], keyEnv === undefined ? noKey : `{env:${keyEnv}}`],
      ...[...new Set([model, smallModel])].map(
        (name) => [["provider", "aicortex", "models", name, "tool_call"], true] as const
      )
    ]),
  next: (target) => [...exported(target), "Then: opencode"]
}

const continueFolder = (): string => environment("CONTINUE_GLOBAL_DIR") ?? inHome(".continue")

const continueDev: Program = {
  title: "Continue",
  file: () => join(continueFolder(), "config.yaml"),
  change: (text, { keyEnv, model, smallModel, url }) => {
    const document = parseYaml(text)
    if (text.trim() === "") {
      document.set("name", "aicortex")
      document.set("version", "0.0.1")
      document.set("schema", "v1")
    }
    const entry = (name: string, asked: string, roles: ReadonlyArray<string>) => ({
      name,
      provider: "ollama",
      model: asked,
      apiBase: url,
      ...(keyEnv === undefined ? {} : { apiKey: `\${{ secrets.${keyEnv} }}` }),
      roles
    })
    const entries = [
      entry("aicortex", model, ["chat", "edit", "apply"]),
      entry("aicortex completion", smallModel, ["autocomplete"])
    ]
    const models = document.get("models")
    if (models === undefined || models === null) document.set("models", document.createNode(entries))
    else if (!Yaml.isSeq(models)) throw new Error('"models" is not a list')
    else {
      for (const wanted of entries) {
        const at = models.items.findIndex((item) => Yaml.isMap(item) && item.get("name") === wanted.name)
        if (at === -1) models.add(document.createNode(wanted))
        else models.set(at, document.createNode(wanted))
      }
    }
    return yamlText(text, document)
  },
  next: ({ keyEnv }) => [
    ...(keyEnv === undefined ? [] : [`Write the key as ${keyEnv}=… into ${join(continueFolder(), ".env")}.`]),
    "Continue takes a changed file at once."
  ]
}

/** The address as a container sees it: loopback is the machine that the container runs on. */
const fromContainer = (url: string): string => {
  const address = new URL(url)
  if (/^(localhost|127\..*|\[::1\])$/.test(address.hostname)) address.hostname = "host.docker.internal"
  return address.href.replace(/\/$/, "")
}

const openWebui: Program = {
  title: "Open WebUI",
  file: () => firstOf(["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"]),
  change: (text, { keyEnv, url }) => {
    const document = parseYaml(text)
    const path = ["services", "open-webui"]
    if (!document.hasIn(path)) {
      document.setIn(
        path,
        document.createNode({
          image: "ghcr.io/open-webui/open-webui:main",
          ports: ["3000:8080"],
          volumes: ["open-webui:/app/backend/data"]
        })
      )
      if (!document.hasIn(["volumes", "open-webui"])) document.setIn(["volumes", "open-webui"], document.createNode({}))
    }
    const address = fromContainer(url)
    const variables: Readonly<Record<string, string>> =
      keyEnv === undefined
        ? { OLLAMA_BASE_URL: address }
        : {
            ENABLE_OLLAMA_API: "false",
            OPENAI_API_BASE_URL: `${address}/v1`,
            OPENAI_API_KEY: `\${${keyEnv}:?the key of the gateway}`
          }
    const environmentOf = document.getIn([...path, "environment"])
    for (const [name, value] of Object.entries(variables)) {
      if (Yaml.isSeq(environmentOf)) {
        const line = `${name}=${value}`
        const at = environmentOf.items.findIndex(
          (item) => String(Yaml.isScalar(item) ? item.value : item).split("=")[0] === name
        )
        if (at === -1) environmentOf.add(line)
        else environmentOf.set(at, line)
      } else document.setIn([...path, "environment", name], value)
    }
    if (address.includes("host.docker.internal")) {
      const host = "host.docker.internal:host-gateway"
      const hosts = document.getIn([...path, "extra_hosts"])
      if (hosts === undefined) document.setIn([...path, "extra_hosts"], document.createNode([host]))
      else if (Yaml.isSeq(hosts) && !JSON.stringify(hosts.toJSON()).includes("host.docker.internal")) hosts.add(host)
    }
    return yamlText(text, document)
  },
  next: (target) => [
    ...exported(target),
    ...(fromContainer(target.url).includes("host.docker.internal")
      ? ["The gateway must listen where the container can reach it: aicortex serve --host 0.0.0.0, with a key."]
      : []),
    "Then: docker compose up -d. Open WebUI keeps its connections from its first start on: later, change them in its Admin Settings."
  ]
}

/** The programs, by the name that the command line has for them. */
export const programs: ReadonlyMap<string, Program> = new Map([
  ["claude", claude],
  ["codex", codex],
  ["continue", continueDev],
  ["open-webui", openWebui],
  ["opencode", opencode]
])
