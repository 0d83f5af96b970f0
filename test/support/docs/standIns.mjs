#!/usr/bin/env node
/**
 * Stands in for programs that a page of the documentation starts and that are not here: by the name it is called by.
 * Those that talk to the gateway do so, at the address and in the API that they were configured for.
 */
import { existsSync, readFileSync } from "node:fs"
import { homedir } from "node:os"
import { basename, join } from "node:path"

const name = basename(process.argv[1] ?? "")
const args = process.argv.slice(2)

/** @type {(message: string, code?: number) => never} */
const fail = (message, code = 1) => {
  process.stderr.write(`${name}: ${message}\n`)
  process.exit(code)
}

/** @type {(url: string, body: unknown, headers?: Record<string, string>) => Promise<any>} */
const post = async (url, body, headers = {}) => {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body)
  })
  const text = await response.text()
  return response.ok ? JSON.parse(text) : fail(`${url}: ${response.status} ${text}`)
}

const prompt = () => args.filter((arg) => !arg.startsWith("-")).at(-1) ?? fail("no prompt")

/** curl with the few flags that the pages use. */
const curl = async () => {
  /** @type {Record<string, string>} */
  const headers = {}
  let [url, method, body, failing, onlyHead, showHead] = ["", "", "", false, false, false]
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] ?? ""
    const value = () => args[++i] ?? fail(`${arg} needs a value`)
    if (arg === "-H") {
      const [key = "", ...rest] = value().split(":")
      headers[key.trim()] = rest.join(":").trim()
    } else if (arg === "-d" || arg === "--json") {
      body = value()
      headers["content-type"] ??= "application/json"
    } else if (arg === "-X") method = value()
    else if (/^-[sSfNi]+$/.test(arg)) {
      failing ||= arg.includes("f")
      showHead ||= arg.includes("i")
    } else if (arg === "-I") onlyHead = true
    else if (arg.startsWith("-")) fail(`${arg} is not known here`)
    else url = arg
  }
  const response = await fetch(url.includes("://") ? url : `http://${url}`, {
    method: method || (onlyHead ? "HEAD" : body === "" ? "GET" : "POST"),
    headers,
    ...(body === "" ? {} : { body })
  })
  if (showHead || onlyHead) for (const [key, value] of response.headers) process.stdout.write(`${key}: ${value}\n`)
  if (failing && !response.ok) fail(`status ${response.status}: ${await response.text()}`, 22)
  process.stdout.write(`${await response.text()}\n`)
}

/** Claude Code: Anthropic's API at the address in the environment. */
const claude = async () => {
  const base = process.env.ANTHROPIC_BASE_URL ?? fail("ANTHROPIC_BASE_URL is not set")
  const token = process.env.ANTHROPIC_AUTH_TOKEN ?? process.env.ANTHROPIC_API_KEY ?? fail("no key is set")
  const body = {
    model: process.env.ANTHROPIC_MODEL ?? "claude-sonnet-4-5",
    max_tokens: 100,
    messages: [{ role: "user", content: prompt() }]
  }
  const { content } = await post(`${base}/v1/messages`, body, { authorization: `Bearer ${token}` })
  process.stdout.write(`${content[0].text}\n`)
}

/** Codex: the Responses API at the address in its configuration. */
const codex = async () => {
  const config = readFileSync(join(homedir(), ".codex/config.toml"), "utf8")
  const setting = (/** @type {string} */ key) =>
    new RegExp(`^${key} = "(.*)"`, "m").exec(config)?.[1] ?? fail(`${key} is not in config.toml`)
  if (setting("wire_api") !== "responses") fail("wire_api")
  const { output } = await post(`${setting("base_url")}/responses`, { model: setting("model"), input: prompt() })
  process.stdout.write(`${output.at(-1).content[0].text}\n`)
}

/** opencode: OpenAI's chat API at the address in opencode.json. */
const opencode = async () => {
  const file = [join(process.cwd(), "opencode.json"), join(homedir(), ".config/opencode/opencode.json")].find(
    existsSync
  )
  const config = JSON.parse(readFileSync(file ?? fail("no opencode.json"), "utf8"))
  const [provider = "", ...rest] = config.model.split("/")
  const { baseURL } = config.provider[provider].options
  const model = rest.join("/")
  if (config.provider[provider].models[model] === undefined) fail(`${model} is not under models`)
  const body = { model, messages: [{ role: "user", content: prompt() }] }
  const { choices } = await post(`${baseURL}/chat/completions`, body)
  process.stdout.write(`${choices[0].message.content}\n`)
}

const programs = { curl, claude, codex, opencode, docker: async () => {}, systemctl: async () => {} }
const program = /** @type {Record<string, () => Promise<void>>} */ (programs)[name] ?? (() => fail("nobody stands in"))
await program()
