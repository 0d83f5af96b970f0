import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Options from "@effect/cli/Options"
import * as Either from "effect/Either"
import { afterAll, afterEach, assert, beforeAll, describe, it } from "vitest"
import { normalize, shape } from "../../src/cli/commandLine.js"
import { version } from "../../src/internal/version.js"
import { commandHost } from "../support/commandHost.js"
import { type FakeOllamaOptions, startFakeOllama, startFakeOpenAI, unusedPort } from "../support/fakeServer.js"
import { eventually } from "../support/gateway.js"

const root = fileURLToPath(new URL("../..", import.meta.url))
const bin = join(root, "dist/bin.js")
const home = mkdtempSync(join(tmpdir(), "aicortex-cli-"))

beforeAll(() => {
  const built = spawnSync(process.execPath, [join(root, "scripts/setup.mjs")], { encoding: "utf8" })
  assert.strictEqual(built.status, 0, built.stderr)
}, 120_000)
const host = commandHost()
afterAll(() => {
  host.stop()
  rmSync(home, { recursive: true, force: true })
})

const stops: Array<() => Promise<void>> = []
afterEach(async () => {
  await Promise.all(stops.splice(0).map((stop) => stop()))
})

// -----------------------------------------------------------------------------
// running it
// -----------------------------------------------------------------------------

interface Setup {
  readonly env?: { readonly [name: string]: string }
  /** The configuration file; default: none is named, and there is none. */
  readonly config?: unknown
  /** What a shell pipes in; default: standard input is /dev/null. */
  readonly input?: string
  readonly stdin?: "ignore" | "pipe"
  /** The command line as it is installed somewhere else. */
  readonly bin?: string
}

let runs = 0
const folder = () => {
  const path = join(home, String(runs++))
  mkdirSync(path)
  return path
}

const environment = ({ config, env = {} }: Setup, path = folder()) => {
  const file = join(path, "config.json")
  if (config !== undefined) writeFileSync(file, JSON.stringify(config))
  const named = config === undefined ? {} : { AICORTEX_CONFIG: file }
  return { PATH: process.env["PATH"], HOME: path, XDG_CONFIG_HOME: path, ...named, ...env }
}

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

const ended = (child: ChildProcess): Promise<Ended> =>
  new Promise((resolve) => {
    let stdout = ""
    let stderr = ""
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      stdout += text
    })
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      stderr += text
    })
    child.on("close", (code) => resolve({ code, stdout, stderr }))
  })

const start = (args: ReadonlyArray<string>, setup: Setup = {}): ChildProcess => {
  const env = environment(setup)
  if (setup.input === undefined) {
    const program = setup.bin ?? bin
    return spawn(process.execPath, [program, ...args], { env, stdio: [setup.stdin ?? "ignore", "pipe", "pipe"] })
  }
  // Node gives a socket to the processes that it starts: only a shell gives a pipe.
  const input = join(env.HOME, "input")
  writeFileSync(input, setup.input)
  const script = 'input=$1; shift; cat "$input" | "$@"'
  return spawn("sh", ["-c", script, "sh", input, process.execPath, bin, ...args], {
    env,
    stdio: ["ignore", "pipe", "pipe"]
  })
}

const run = (args: ReadonlyArray<string>, setup: Setup = {}) => ended(start(args, setup))

const shell = (script: string, setup: Setup = {}) =>
  ended(
    spawn("sh", ["-c", script.replaceAll("aicortex", `"${process.execPath}" "${bin}"`)], {
      env: environment(setup),
      stdio: ["ignore", "pipe", "pipe"]
    })
  )

const outputOf = ({ code, stderr, stdout }: Ended) => {
  assert.strictEqual(code, 0, `${stdout}\n${stderr}`)
  return stdout
}

const errorOf = (result: Ended, code: number) => {
  assert.strictEqual(result.code, code, `${result.stdout}\n${result.stderr}`)
  assert.strictEqual(result.stdout, "")
  assert.match(result.stderr, /^aicortex: [^\n]+(\n {2}- [^\n]+)*(\n {2}See docs\/errors\.md#[a-z]+)?\n$/)
  return result.stderr
    .slice("aicortex: ".length)
    .replace(/\n {2}See docs\/errors\.md#[a-z]+\n$/, "")
    .trimEnd()
}

const ok = async (args: ReadonlyArray<string>, setup: Setup = {}) => outputOf(await run(args, setup))

const failed = async (args: ReadonlyArray<string>, setup: Setup = {}, code = 1) => errorOf(await run(args, setup), code)

/** For many commands of which only the words matter: the same as `ok` and `failed`, without a process for each. */
type Words = Pick<Setup, "config" | "env">
const printed = async (args: ReadonlyArray<string>, setup: Words = {}) =>
  outputOf(await host.run(args, environment(setup)))
const refused = async (args: ReadonlyArray<string>, setup: Words = {}, code = 1) =>
  errorOf(await host.run(args, environment(setup)), code)

const ollama = async (options: FakeOllamaOptions = {}) => {
  const server = await startFakeOllama({ reply: "one two three", ...options })
  stops.push(server.stop)
  return server
}

const on = (...servers: ReadonlyArray<{ readonly url: string }>): Setup => ({
  config: { servers: servers.map(({ url }) => url), model: "llama3.2:3b" }
})

const nobody = async (): Promise<Setup> => ({ config: { servers: [`http://127.0.0.1:${await unusedPort()}`] } })

const noServer: Setup = { config: { servers: [] } }

/** Whether nothing listens at Ollama's port: with no configuration at all there is no server then. */
const alone = await fetch("http://127.0.0.1:11434").then(
  () => false,
  () => true
)

const promptOf = (server: Awaited<ReturnType<typeof ollama>>, n = 0): string | undefined =>
  server.chatRequests[n]?.body.messages.at(-1).content

// -----------------------------------------------------------------------------

describe("aicortex", () => {
  it("prints its version and nothing else", async () => {
    assert.strictEqual(await ok(["--version"]), `${version}\n`)
    assert.strictEqual(await ok(["-V"]), `${version}\n`)
    const unread = await shell("{ sleep 0.2; aicortex --version; echo $? >&2; } | true")
    assert.strictEqual(unread.stderr, "0\n")
    if (existsSync("/dev/full")) {
      const full = await shell("aicortex --version > /dev/full")
      assert.strictEqual(full.code, 1)
      assert.match(full.stderr, /^aicortex: standard output cannot be written: [^\n]*ENOSPC[^\n]*\n$/)
    }
  })

  it("prints help, without colours off a terminal", async () => {
    const help = await ok(["--help"])
    for (const name of ["chat", "embed", "models", "servers", "sessions", "best", "llm-params", "config"])
      assert.include(help, `  ${name}`)
    assert.match(help, /With no server, the small built-in model answers\./)
    assert.strictEqual(await ok([]), help)
    const chat = await ok(["chat", "--help"])
    for (const part of ["-m, --model NAME", "the one that fits best", "--schema FILE", "Examples", "--stop TEXT..."]) {
      assert.include(chat, part)
    }
    assert.strictEqual(await ok(["help", "chat"]), chat)
    assert.strictEqual(await ok(["chat", "a prompt", "-h"]), chat)
    assert.match(chat.replace(/\s+/g, " "), /--session ID [^-]*as `aicortex sessions create` prints it/)
    assert.include(await ok(["servers", "--help"]), "remove")
    assert.include(await ok(["servers", "add", "--help"]), "--api-key-env VARIABLE")
    assert.notInclude(help + chat, "\u001b")
    assert.notMatch(help + chat, /.{101}/)
  })

  it("refuses unknown commands and flags, with a hint", async () => {
    const usage = (...args: ReadonlyArray<string>) => refused(args, {}, 2)
    assert.strictEqual(
      await usage("chat", "hi", "--strem"),
      "unknown flag '--strem' of 'chat'; did you mean '--stream'? See `aicortex chat --help`."
    )
    assert.include(await usage("modles"), "unknown command 'modles'; did you mean 'models'?")
    assert.include(await usage("Chat", "hi"), "unknown command 'Chat'; did you mean 'chat'?")
    assert.include(
      await usage("chat", "hi", "--server", "http://gpu-1:11434"),
      "unknown flag '--server' of 'chat'; servers are those of `aicortex servers add URL`, or of AICORTEX_SERVERS."
    )
    assert.include(
      await usage("serve", "--server", "http://gpu-1:11434"),
      "unknown flag '--server' of 'serve'; servers are those of `aicortex servers add URL`, or of AICORTEX_SERVERS."
    )
    assert.include(await usage("-v"), "unknown flag '-v'; did you mean '-V'?")
    assert.include(
      await usage("zzzzzz"),
      "there are chat, run, start, stop, status, logs, engines, service, embed, ls, list, ps, show, pull, rm, models, use, servers, discover, registry, doctor, sessions, serve, top, keys, usage, requests, engine, bench, best, auto, conditions, llm-params, config, setup, completions"
    )
    assert.include(await usage("chat", "hi", "--routing", "quickest"), "random, fastest, nearest, balanced")
    assert.include(await usage("chat", "hi", "-t", "warm"), "--temperature must be a number, not 'warm'")
    assert.include(await usage("chat", "hi", "--timeout", "0"), "--timeout must be a number of seconds above 0")
    assert.include(await usage("chat", "hi", "--seed", "1.5"), "--seed must be a whole number")
    assert.include(await usage("chat", "hi", "--model"), "--model needs a value")
    assert.include(await usage("chat", "hi", "-m", "a", "--model=b"), "--model is given 2 times")
    assert.include(await usage("chat", "hi", "--stream=maybe"), "--stream takes no value")
    assert.include(await usage("chat", "--frobnicate"), "put -- before")
    assert.include(await usage("models", "llama"), "'models' takes no argument")
    assert.include(await usage("best"), "MODEL")
    assert.include(await usage("best", "a", "b"), "'best' takes one argument, but was given 2: 'a', 'b'")
    assert.include(await usage("servers", "add", "http://a", "http://b"), "'servers add' takes one argument")
    assert.include(await usage("servers", "remove", "a", "b"), "'servers remove' takes one argument")
    assert.include(await usage("servers", "a", "b"), "'servers' takes one argument")
    assert.include(await failed(["chat"], {}, 2), "there is no prompt")
  }, 120_000)

  it("reports a configuration error in one line", async () => {
    const configs = [
      { sever: [] },
      { servers: 1 },
      { servers: ["ftp://x"] },
      { servers: ["http://a", "http://a"] },
      "x"
    ]
    for (const config of configs) {
      assert.match(await refused(["chat", "hi"], { config }), /config\.json: .*; repair it, or delete it$/)
    }
    const path = folder()
    const file = join(path, "config.json")
    writeFileSync(file, '{"servers": [')
    for (const args of [["chat", "hi"], ["config"], ["servers", "add", "http://x"]]) {
      assert.match(
        await refused(args, { env: { AICORTEX_CONFIG: file } }),
        /config\.json: .*; repair it, or delete it$/
      )
    }
    const expected: ReadonlyArray<readonly [string, string]> = [
      [
        '{\n  "model": "m",\n}',
        "content: is not a JSON object of settings (line 3, column 1); repair it, or delete it"
      ],
      ['{"modle": "m"}', "modle: is not known; did you mean 'model'; repair it, or delete it"],
      ['{"servers": "http://a"}', "servers: must be a list; repair it, or delete it"]
    ]
    for (const [text, reason] of expected) {
      writeFileSync(file, text)
      assert.include(await refused(["config"], { env: { AICORTEX_CONFIG: file } }), `config.json: ${reason}`)
    }
    const unreadable = await refused(["config"], { env: { AICORTEX_CONFIG: path } })
    assert.match(unreadable, / cannot be used: it is a folder and no regular file$/)
    const missing = { config: { servers: [{ url: "http://a", apiKey: { env: "NOT_SET" } }] } }
    assert.match(await refused(["servers"], missing), /NOT_SET is not set$/)
    const elsewhere = await failed(["servers"], { env: { AICORTEX_SERVERS: "ftp://x" } }, 2)
    assert.match(elsewhere, /AICORTEX_SERVERS.*must begin with/)
    assert.notInclude(elsewhere, "mend it")
  })
})

describe("the environment of a command line", () => {
  it("an invalid value is refused by every command with the name of its variable and exit code 2", async () => {
    const nowhere = join(folder(), "nowhere.json")
    const missing = { env: { AICORTEX_CONFIG: nowhere } }
    const commands = [
      "chat hi",
      "embed hi -m m",
      "models",
      "servers",
      "servers list",
      "sessions",
      "best m",
      "llm-params"
    ]
    for (const words of [...commands, "config", "serve --port 0", "serve --port 0 --workers 2"]) {
      const said = await (words.startsWith("serve -") ? failed : refused)(words.split(" "), missing, 2)
      assert.strictEqual(said, `Invalid configuration in the environment: AICORTEX_CONFIG: there is no file ${nowhere}`)
    }
    const wrong: ReadonlyArray<readonly [string, string, string?]> = [
      ["AICORTEX_SERVER_COOLDOWN", "soon"],
      ["AICORTEX_PROBE_INTERVAL", "0.1"],
      ["AICORTEX_LOCATION", "here"],
      ["PORT", "abc", "serve"],
      ["AICORTEX_API_KEY", "two words", "serve"]
    ]
    for (const [name, value, command = "config"] of wrong) {
      const said = await refused([command], { env: { [name]: value } }, 2)
      assert.isTrue(said.startsWith(`Invalid configuration in the environment: ${name}: `), said)
    }
  })

  it("may name a configuration file that `servers add` creates", async () => {
    const env = { AICORTEX_CONFIG: join(folder(), "new.json") }
    assert.include(await ok(["servers", "add", `http://127.0.0.1:${await unusedPort()}`], { env }), "new.json")
    assert.include(await ok(["config"], { env }), "new.json")
  })
})

describe("reading a command line", () => {
  const flags = {
    text: Options.text("text").pipe(Options.withAlias("t"), Options.optional),
    many: Options.text("many").pipe(Options.repeated),
    quick: Options.boolean("quick").pipe(Options.withAlias("q"))
  }
  const about = { about: [], examples: [] }
  const tree = shape(about, {}, { go: shape({ ...about, takes: "WORD…" }, flags, { on: shape(about, flags) }) })
  const read = (...words: ReadonlyArray<string>) =>
    Either.match(normalize(tree, words), { onLeft: (error) => error.message, onRight: (read) => read.words?.join(" ") })

  it("puts flags first and arguments last", () => {
    assert.strictEqual(read("go", "a", "-q", "--text", "b", "c"), "go --quick --text b -- a c")
    assert.strictEqual(read("go", "-qt", "b"), "go --quick --text b")
    assert.strictEqual(read("go", "-tb"), "go --text b")
    assert.strictEqual(read("go", "--text=a=b\nc", "-q", "yes"), "go --text a=b\nc --quick -- yes")
    assert.strictEqual(read("go", "--text", "-1", "--", "-q", "--"), "go --text -1 -- -q --")
    assert.strictEqual(read("go", "-", "- a list", "-- x", "-5"), "go -- - - a list -- x -5")
    assert.strictEqual(read("go", "--quick=false", "--quick=true"), "go --quick")
    assert.strictEqual(read("go", "--many", "\n", "--many="), "go --many =%0A --many =")
  })

  it("finds subcommands, also after a flag", () => {
    assert.strictEqual(read("go", "on", "-q"), "go on --quick")
    assert.strictEqual(read("go", "-q", "on"), "go on --quick")
    assert.strictEqual(read("go", "x", "on"), "go -- x on")
    assert.strictEqual(read("go", "on", "x"), "'go on' takes no argument, but was given 'x'")
  })
})

describe("aicortex chat", () => {
  it("prints the answer and a line break", async () => {
    const server = await ollama()
    assert.deepStrictEqual(await run(["chat", "Hello?"], on(server)), {
      code: 0,
      stdout: "one two three\n",
      stderr: ""
    })
    const { body } = server.chatRequests[0] ?? {}
    assert.strictEqual(body.model, "llama3.2:3b")
    assert.strictEqual(body.options.temperature, 0.7)
    assert.deepStrictEqual(body.messages, [{ role: "user", content: "Hello?" }])
  })

  it("streams the same bytes", async () => {
    const server = await ollama({ reply: "Grüße, 你好 👋\n\nEnd", faults: { kind: "splitUtf8" } })
    assert.strictEqual(await ok(["chat", "-s", "Hello?"], on(server)), "Grüße, 你好 👋\n\nEnd\n")
    assert.strictEqual(await ok(["chat", "Hello?", "--stream"], on(server)), "Grüße, 你好 👋\n\nEnd\n")
    await server.setBehaviour({ reply: "ends\n", faults: undefined })
    assert.strictEqual(await ok(["chat", "-s", "Hello?"], on(server)), "ends\n")
  })

  it("passes every option on", async () => {
    const server = await ollama({ models: [{ name: "m", capabilities: ["completion", "thinking"] }] })
    const args =
      "-m m -t 0.1 --top-p 0.5 --top-k 3 --min-p 0.2 --seed -7 --max-tokens 9 --frequency-penalty -1 --presence-penalty 1 " +
      "--repeat-penalty 1.5 --think high --keep-alive 10m --routing balanced --timeout 3.5 --deadline 20 --max-retries 2"
    await ok(
      ["chat", "why", "is it", ...args.split(" "), "--stop", "\n", "--system=Be\nbrief", "--stop", " END "],
      on(server)
    )
    const { body } = server.chatRequests[0] ?? {}
    assert.deepStrictEqual(body.messages, [
      { role: "system", content: "Be\nbrief" },
      { role: "user", content: "why is it" }
    ])
    assert.deepStrictEqual([body.model, body.think, body.keep_alive], ["m:latest", "high", "10m"])
    assert.deepInclude(body.options, {
      temperature: 0.1,
      top_p: 0.5,
      top_k: 3,
      min_p: 0.2,
      seed: -7,
      num_predict: 9,
      frequency_penalty: -1,
      presence_penalty: 1,
      repeat_penalty: 1.5,
      stop: ["\n", " END "]
    })
  })

  it("completes a text without a template, and fills in the middle", async () => {
    const models = [{ name: "m", capabilities: ["completion", "insert"] }]
    const server = await ollama({ models, reply: " time there was" })
    const text = "Once\n  upon a"
    assert.strictEqual(await ok(["chat", "-m", "m", "--raw", "-"], { ...on(server), input: text }), " time there was\n")
    const ask = ["chat", "-m", "m", "--suffix", "}\n", "--stream", "x = {"]
    assert.strictEqual(await ok(ask, on(server)), " time there was\n")
    const bodies = server.chatRequests.map(({ body }) => body)
    assert.deepInclude(bodies[0], { prompt: text, raw: true })
    assert.deepInclude(bodies[1], { prompt: "x = {", suffix: "}\n" })
    assert.notProperty(bodies[1], "raw")
    server.clear()
    const raw = ["chat", "x", "-m", "m", "--raw"]
    for (const [flag, ...value] of [["system", "y"], ["suffix", "y"], ["session", "y"], ["think", "on"], ["json"]]) {
      const said = await refused([...raw, `--${flag}`, ...value], on(server), 2)
      assert.include(said, `--raw cannot be given together with --${flag}`)
    }
    assert.strictEqual(server.chatRequests.length, 0)
  })

  it("takes the model from the flag, the environment, the file, in this order", async () => {
    const server = await ollama({ models: ["a:1b", "b:1b", "c:1b", "llama3.2:3b"] })
    const config = { servers: [server.url], model: "c:1b" }
    const env = { AICORTEX_MODEL: "b:1b" }
    await ok(["chat", "x", "-m", "a:1b"], { config, env })
    await ok(["chat", "x"], { config, env })
    await ok(["chat", "x"], { config })
    await ok(["chat", "x"], on(server))
    assert.deepStrictEqual(
      server.chatRequests.map(({ body }) => body.model),
      ["a:1b", "b:1b", "c:1b", "llama3.2:3b"]
    )
  })

  it("uses personas, and refuses one together with a system prompt before other errors", async () => {
    const server = await ollama()
    const setup = { config: { servers: [server.url], personas: { pirate: "Talk like a pirate." } } }
    await ok(["chat", "x", "--persona", "pirate"], setup)
    assert.strictEqual(server.chatRequests[0]?.body.messages[0].content, "Talk like a pirate.")
    server.clear()
    assert.include(await refused(["chat", "x", "--persona", "poet"], setup), "there are: pirate")
    assert.include(await refused(["chat", "x", "--persona", "pirate", "--system", "y"], setup, 2), "--system")
    assert.include(
      await refused(["chat", "x", "--json", "--stream"], setup, 2),
      "together with --json: JSON is checked"
    )
    assert.include(await refused(["chat", "x", "--schema", "/nowhere", "-s"], setup, 2), "together with --schema")
    assert.strictEqual(server.chatRequests.length, 0)
  })

  it("names the flag of an out-of-range value before other errors", async () => {
    const values: ReadonlyArray<readonly [ReadonlyArray<string>, string]> = [
      [["--temperature", "9"], "--temperature must be from 0 to 2, not '9'"],
      [["-t", "-1"], "--temperature must be from 0 to 2, not '-1'"],
      [["--max-tokens", "0"], "--max-tokens must be a whole number from 1, not '0'"],
      [["--top-p", "2"], "--top-p must be from 0 to 1, not '2'"],
      [["--max-retries=0"], "--max-retries must be a whole number from 1, not '0'"],
      [["--repeat-penalty", "0"], "--repeat-penalty must be a number above 0, not '0'"],
      [["--keep-alive="], "--keep-alive must be a number of seconds, or a duration such as 5m or 1h30m, not ''"],
      [
        ["--keep-alive", "soon"],
        "--keep-alive must be a number of seconds, or a duration such as 5m or 1h30m, not 'soon'"
      ],
      [["--stop", "a", "--stop="], "--stop must not be empty"]
    ]
    for (const [args, message] of values) {
      const said = await refused(["chat", "x", ...args], { config: "broken" }, 2)
      assert.isTrue(said.startsWith(message), said)
      assert.isTrue(said.endsWith("See `aicortex chat --help`."), said)
    }
    const server = await ollama({ faults: { kind: "status", code: 400, body: { error: "temperature is wrong" } } })
    assert.include(await failed(["chat", "x"], on(server)), "temperature is wrong")
    const openai = await startFakeOpenAI({ models: ["m"] })
    stops.push(openai.stop)
    const setup = { config: { servers: [{ url: openai.url, protocol: "openai" }] } }
    assert.match(
      await failed(["chat", "x", "-m", "m", "--keep-alive", "5m"], setup),
      /^Invalid request: --keep-alive: /
    )
  })

  it("prints JSON", async () => {
    const server = await ollama({ reply: '```json\n{"a":[1]}\n```' })
    assert.strictEqual(await ok(["chat", "x", "--json"], on(server)), '{\n  "a": [\n    1\n  ]\n}\n')
    await server.setBehaviour({ reply: "no" })
    assert.include(await failed(["chat", "x", "--json"], on(server)), "does not fit")
  })

  it("checks JSON against the schema of a file", async () => {
    const server = await ollama({ reply: '{"capital":"Paris"}' })
    const path = folder()
    const file = join(path, "city.json")
    const schema = { type: "object", properties: { capital: { type: "string" } }, required: ["capital"] }
    for (const dialect of [undefined, "https://json-schema.org/draft/2020-12/schema"]) {
      writeFileSync(file, JSON.stringify({ $schema: dialect, ...schema }))
      assert.deepStrictEqual(JSON.parse(await ok(["chat", "x", "--schema", file], on(server))), { capital: "Paris" })
    }
    assert.deepInclude(server.chatRequests[0]?.body.format, { required: ["capital"] })
    await server.setBehaviour({ reply: '{"capital":1}' })
    assert.include(await failed(["chat", "x", "--schema", file], on(server)), "capital")
    server.clear()
    writeFileSync(file, "{")
    assert.match(await failed(["chat", "x", "--schema", file], on(server)), /city\.json is not JSON/)
    writeFileSync(file, "[]")
    assert.match(await failed(["chat", "x", "--schema", file], on(server)), /must be an object/)
    writeFileSync(file, '{"type":"strin"}')
    assert.match(await failed(["chat", "x", "--schema", file], on(server)), /schema/)
    assert.match(await failed(["chat", "x", "--schema", join(path, "none.json")], on(server)), /does not exist/)
    assert.strictEqual(server.requests.length, 0)
  })

  it("reads the prompt, or additional text, from standard input", async () => {
    const server = await ollama()
    const prompts: ReadonlyArray<readonly [ReadonlyArray<string>, Setup, string]> = [
      [["chat"], { input: "From a pipe.\n" }, "From a pipe."],
      [["chat", "-"], { input: "two\nlines\n" }, "two\nlines"],
      [["chat", "Summarise:"], { input: "diff --git\n+x\n" }, "Summarise:\n\ndiff --git\n+x"],
      [["chat", "Summarise:", "-n"], { input: "left alone" }, "Summarise:"],
      [["chat", "Summarise:"], { input: " \n" }, "Summarise:"],
      [["chat", "yes", "-s"], {}, "yes"]
    ]
    for (const [n, [args, setup, prompt]] of prompts.entries()) {
      await ok(args, { ...on(server), ...setup })
      assert.strictEqual(promptOf(server, n), prompt)
    }
    server.clear()
    assert.strictEqual((await shell('printf ok > f; aicortex chat "See:" < f; rm f', on(server))).code, 0)
    assert.strictEqual(promptOf(server), "See:\n\nok")
    assert.include(await failed(["chat"], { ...on(server), input: "" }, 2), "there is no prompt")
    const latin = await shell("printf 'caf\\351' | aicortex chat See:", on(server))
    assert.deepEqual([latin.code, latin.stdout], [1, ""])
    assert.match(latin.stderr, /^aicortex: standard input is not text in UTF-8: [^\n]*\n$/)
    assert.strictEqual(server.chatRequests.length, 1)
    assert.include(await failed(["chat", " "], on(server), 2), "there is no prompt")
  })

  it("does not wait for a standard input that stays open and silent", async () => {
    const server = await ollama()
    const child = start(["chat", "Hello?"], { ...on(server), stdin: "pipe" })
    assert.strictEqual((await ended(child)).stdout, "one two three\n")
    assert.strictEqual(promptOf(server), "Hello?")
    const fed = start(["chat", "See:"], { ...on(server), stdin: "pipe" })
    fed.stdin?.end("written at once\n")
    await ended(fed)
    assert.strictEqual(promptOf(server, 1), "See:\n\nwritten at once")
  })

  it("continues on another server after a failure, and reports it in one line while streaming", async () => {
    const [bad, good] = [await ollama({ faults: { kind: "status", code: 500 } }), await ollama()]
    const setup = {
      config: {
        servers: [
          { url: bad.url, priority: 0 },
          { url: good.url, priority: 1 }
        ],
        model: "llama3.2:3b"
      }
    }
    assert.deepStrictEqual(await run(["chat", "x"], setup), { code: 0, stdout: "one two three\n", stderr: "" })
    const streamed = await run(["chat", "-s", "x"], setup)
    assert.strictEqual(streamed.stdout, "one two three\n")
    assert.match(streamed.stderr, /^aicortex: [^\n]+\n$/)
    assert.include(streamed.stderr, bad.url)
  })

  it("follows --on-interrupt when a server fails during the answer", async () => {
    const [bad, good] = [await ollama({ faults: { kind: "cut", after: 2 } }), await ollama()]
    const setup = {
      config: {
        servers: [
          { url: bad.url, priority: 0 },
          { url: good.url, priority: 1 }
        ]
      }
    }
    const resumed = await run(["chat", "-s", "x"], setup)
    assert.deepStrictEqual([resumed.code, resumed.stdout], [0, "one two three\n"])
    assert.include(resumed.stderr, `; ${good.url} goes on`)
    const restarted = await run(["chat", "-s", "x", "--on-interrupt", "restart"], setup)
    assert.deepStrictEqual([restarted.code, restarted.stdout], [0, "one two\none two three\n"])
    assert.match(restarted.stderr, new RegExp(`aicortex: .*discarded.*${good.url}\n$`))
    const failing = await run(["chat", "-s", "x", "--on-interrupt=fail"], setup)
    assert.deepStrictEqual([failing.code, failing.stdout], [1, "one two\n"])
    assert.include(failing.stderr, "broke after 7 characters")
    assert.include(await failed(["chat", "x", "--on-interrupt", "retry"], {}, 2), "one of resume, restart, fail")
  })

  it("lists every attempt when all fail", async () => {
    const servers = [
      await ollama({ faults: { kind: "status", code: 500, body: { error: "\u001b[31mred" } } }),
      await ollama({ faults: { kind: "cut" } })
    ]
    for (const args of [
      ["chat", "x"],
      ["chat", "x", "-s"]
    ]) {
      const message = await failed(args, on(...servers))
      assert.match(message, /All server attempts failed for model 'llama3\.2:3b' \(\d+ attempts\)/)
      for (const { url } of servers) assert.include(message, `\n  - ${url}`)
      assert.notInclude(message, "\u001b")
    }
  })

  it("prints the text that arrived before an answer was interrupted", async () => {
    const server = await ollama({ faults: { kind: "cut", after: 2 } })
    const result = await run(["chat", "x", "-s"], on(server))
    assert.strictEqual(result.code, 1)
    assert.strictEqual(result.stdout, "one two\n")
    assert.match(result.stderr, /^aicortex: The answer of 'llama3\.2:3b' broke after 7 characters/)
  })

  it("suggests names for an unknown model, and lists which servers have what", async () => {
    const server = await ollama({ models: ["tiny:1b"] })
    assert.strictEqual(
      await failed(["chat", "x", "-m", "tini:1b"], on(server)),
      "Model 'tini:1b' not found. Did you mean tiny:1b? List what there is with `aicortex models`."
    )
    const message = await failed(["chat", "x"], on(server))
    assert.include(message, "No servers available for model 'llama3.2:3b'")
    assert.include(message, "They have: tiny:1b")
  })

  it("ends at its timeout", async () => {
    const server = await ollama({ faults: { kind: "hang" } })
    assert.include(await failed(["chat", "x", "--timeout", "0.3"], on(server)), "first-token-timeout")
    assert.include(await failed(["chat", "x", "--deadline", "0.3"], on(server)), "within the deadline")
  })

  it("reports an unknown session in one line", async () => {
    const server = await ollama()
    assert.strictEqual(
      await failed(["chat", "x", "--session", "abc"], on(server)),
      "No session with id 'abc' found. List them with `aicortex sessions`, or make one with `aicortex sessions create`."
    )
    assert.strictEqual(server.chatRequests.length, 0)
  })

  it("prints details with --verbose, on standard error", async () => {
    const server = await ollama({
      models: [{ name: "m", capabilities: ["completion", "thinking"] }],
      reply: { tokens: ["So", " it is"], thinking: ["Hm", " well"] }
    })
    for (const more of [[], ["-s"]]) {
      const result = await run(["chat", "x", "-m", "m", "--think", "on", "-v", ...more], on(server))
      assert.strictEqual(result.stdout, "So it is\n")
      assert.match(result.stderr, /^Hm well\naicortex: m:latest on http:\/\/127\.0\.0\.1:\d+, 4 tokens, .* ms\n$/)
      assert.notInclude((await run(["chat", "x", "-m", "m", "--think", "on", ...more], on(server))).stderr, "Hm")
    }
  })

  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143]
  ] as const)("cancels the request at once on %s", async (signal, code) => {
    for (const more of [["-s"], []]) {
      const server = await ollama({ reply: "one two three ".repeat(100), perToken: 50 })
      const child = start(["chat", "x", ...more], on(server))
      const end = ended(child)
      const printed = new Promise<void>((resolve) => child.stdout?.once("data", () => resolve()))
      await server.waitForChats(1)
      // Without -s nothing is printed before the end.
      if (more.length > 0) await Promise.race([printed, end])
      const sent = Date.now()
      child.kill(signal)
      const result = await end
      assert.strictEqual(result.code, code)
      assert.strictEqual(result.stderr, "")
      const closed = await server.chatRequests[0]?.closedByClient
      assert.isBelow((closed ?? Number.POSITIVE_INFINITY) - sent, 500)
      assert.strictEqual(server.chatRequests[0]?.aborted, true)
      if (more.length > 0) assert.match(result.stdout, /^one( two| three| one)*\n$/)
    }
  })

  it("ends quietly when its output is closed, and cancels the request", async () => {
    const server = await ollama({ reply: "one\ntwo\n".repeat(500), perToken: 20 })
    const result = await shell("{ aicortex chat x -s; echo $? >&2; } | head -1", on(server))
    assert.strictEqual(result.stdout, "one\n")
    assert.strictEqual(result.stderr, "0\n")
    assert.strictEqual(server.chatRequests[0]?.aborted, true)
    assert.isBelow(server.chatRequests[0]?.tokensSent ?? 0, 100)
  })
})

describe("the demo model on the command line", () => {
  it("answers if no server is known and no model was named", async () => {
    const setup = noServer
    for (const more of [[], ["--stream"]]) {
      const result = await run(["chat", "What is the capital of France?", ...more], setup)
      assert.strictEqual(result.code, 0, result.stderr)
      assert.match(result.stdout, /^[^\n]*Paris[^\n]*\n$/)
      assert.match(result.stderr, /^aicortex: no server is known, so [^\n]*aicortex-demo[^\n]*servers add[^\n]*\n$/)
    }
    assert.strictEqual(
      typeof JSON.parse(await ok(["chat", "Say hi in JSON.", "--json", "--max-tokens", "60"], setup)),
      "object"
    )
  })

  it("says in one line why there is no answer if its engine is not installed, and only then", async () => {
    const path = folder()
    const elsewhere = join(path, "dist/bin.js")
    cpSync(join(root, "dist/bin"), join(path, "dist/bin"), { recursive: true })
    cpSync(bin, elsewhere)
    cpSync(join(root, "registry"), join(path, "registry"), { recursive: true })
    writeFileSync(join(path, "package.json"), '{"type":"module"}')
    const setup = { ...noServer, bin: elsewhere }
    for (const more of [[], ["--stream"], ["--json"], ["-v"]]) {
      assert.match(
        await failed(["chat", "x", ...more], setup),
        /^no server is known, and the small built-in model "aicortex-demo" cannot run because node-llama-cpp is not installed; add a server with `aicortex servers add \S+`, or install the engine with `npm install node-llama-cpp`$/
      )
    }
    if (alone) assert.match(await failed(["chat", "x"], { bin: elsewhere }), /^no server is known, and .* cannot run/)
    assert.match(await failed(["chat", "x", "-m", "aicortex-demo"], setup), /^The embedded engine cannot run: /)
  })

  it("says in one line which options it does not support", async () => {
    assert.match(
      await failed(["chat", "x", "--think", "on"], noServer),
      /^no server is known, and .*"aicortex-demo" cannot answer: --think: the built-in model does not reason; add a server/
    )
  })

  it("is announced before its answer", async () => {
    const setup = noServer
    for (const more of ["", "--stream", "-v", "--stream -v"]) {
      const script = `exec 2>&1; aicortex chat "What is the capital of France?" ${more}`
      const both = (await shell(script, setup)).stdout.trimEnd().split("\n")
      assert.match(both[0] ?? "", /^aicortex: .*so the small built-in model "aicortex-demo" answers; add a server with/)
      assert.include(both[1], "Paris")
      assert.strictEqual(both.length, more.endsWith("-v") ? 3 : 2)
    }
  })

  it("answers when it is named", async () => {
    const result = await run(["chat", "What is the capital of France?", "-m", "aicortex-demo"], await nobody())
    assert.include(result.stdout, "Paris")
    assert.strictEqual(result.stderr, "")
  })

  it("does not answer if another model was named", async () => {
    const setup = await nobody()
    for (const [args, env] of [
      [["-m", "llama3.2:3b"], {}],
      [[], { AICORTEX_MODEL: "llama3.2:3b" }]
    ] as const) {
      assert.include(await failed(["chat", "x", ...args], { ...setup, env }), "refused")
    }
  })

  it("does not answer if there is a server", async () => {
    const server = await ollama({ models: ["tiny:1b"] })
    const { url } = server
    const config = { servers: [`http://127.0.0.1:${await unusedPort()}`, url] }
    const result = await run(["chat", "x"], { config })
    assert.strictEqual(result.stdout, "one two three\n")
    assert.match(result.stderr, /^aicortex: tiny:1b answers \(/)
    assert.match(
      await failed(["chat", "x"], await nobody()),
      /no server answers\. http:\S+ could not be asked \(refused/
    )
    const locked = await ollama({ apiKey: "k" })
    assert.include(await failed(["chat", "x"], on(locked)), "unauthorized")
  })
})

describe("aicortex models", () => {
  it("lists families with their counts", async () => {
    const setup = await nobody()
    const lines = (await printed(["models"], setup)).trimEnd().split("\n")
    assert.match(lines[0] ?? "", /^Family +Models$/)
    assert.deepStrictEqual(
      lines.slice(1).map((line) => line.split(/\s+/)[0]),
      ["deepseek", "gemma", "llama", "mistral", "others", "qwen"]
    )
    const families = JSON.parse(await printed(["models", "--json"], setup))
    const llama = (await printed(["models", "-f", "llama"], setup)).trimEnd().split("\n")
    assert.deepInclude(families, { family: "llama", models: llama.length })
    assert.include(llama, "llama3.2:3b")
  })

  it("searches, with every filter", async () => {
    const setup = await nobody()
    const names = async (...args: ReadonlyArray<string>): Promise<ReadonlyArray<string>> =>
      JSON.parse(await printed(["models", "--json", ...args], setup))
    for (const name of await names("--search", "70B", "--family", "llama")) assert.match(name, /70b/)
    assert.include(await names("--search", "llama", "--min-params", "2b", "--max-params", "4b"), "llama3.2:3b")
    assert.notInclude(await names("--search", "llama", "--min-params", "4b"), "llama3.2:3b")
    assert.include(await names("--generation", "3", "-f", "gemma"), "gemma3:4b")
    assert.include(await refused(["models", "--min-params", "big"], setup, 2), "--min-params: 'big' is not a size")
    assert.include(await refused(["models", "--generation", "0"], setup, 2), "--generation: 0 is not a whole number")
    assert.deepStrictEqual(await names("--search", "no such model"), [])
    assert.deepStrictEqual(await run(["models", "--search", "no such model"], setup), {
      code: 0,
      stdout: "",
      stderr: "aicortex: no model fits\n"
    })
  })

  it("fails with the list of families for an unknown one", async () => {
    assert.strictEqual(
      await failed(["models", "--family", "lama"], await nobody()),
      "there is no family 'lama'; there are deepseek, gemma, llama, mistral, others, qwen"
    )
  })

  it("lists the servers' models", async () => {
    const server = await ollama({ models: ["tiny:1b", "llama3.2:3b"] })
    assert.strictEqual(await ok(["models", "--available"], on(server)), "llama3.2:3b\ntiny:1b\n")
    const { stderr } = await run(["models", "--available", "--search", "no such model"], on(server))
    assert.strictEqual(stderr, "aicortex: no model fits\n")
  })
})

describe("aicortex models --available", () => {
  const filters = [[], ["--json"], ["--family", "llama"], ["--search", "llama", "--max-params", "4b"]]

  it("lists which servers cannot be reached, and why", async () => {
    const [one, two] = [`http://127.0.0.1:${await unusedPort()}`, `http://127.0.0.1:${await unusedPort()}`]
    for (const more of filters) {
      const args = ["models", "--available", ...more]
      assert.strictEqual(
        await refused(args, { config: { servers: [one] } }),
        `${one} does not tell its models: it refused the connection`
      )
      assert.strictEqual(
        await refused(args, { config: { servers: [one, two] } }),
        `no server reports its models:\n  - ${one} refused the connection\n  - ${two} refused the connection`
      )
    }
    const locked = await ollama({ apiKey: "k" })
    assert.include(await refused(["models", "--available"], on(locked)), `${locked.url} does not tell its models: it `)
  })

  it.runIf(alone)("says how to add a server if there is none", async () => {
    for (const more of filters) {
      assert.strictEqual(
        await refused(["models", "--available", ...more]),
        "no server is known; add one with `aicortex servers add http://HOST:11434`"
      )
    }
  })
})

describe("aicortex embed", () => {
  const embedder = "embedder:1b"
  const vectors = (stdout: string): ReadonlyArray<unknown> =>
    stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line))

  it("prints a vector for each text, each line of standard input, or all of it", async () => {
    const server = await ollama({ models: [{ name: embedder, capabilities: ["embedding"] }] })
    const setup = on(server)
    const both = vectors(await ok(["embed", "one", "two", "-m", embedder], setup))
    assert.lengthOf(both, 2)
    assert.lengthOf(both[0] as Array<number>, 8)
    const input = { ...setup, input: "one\ntwo\n" }
    assert.deepStrictEqual(vectors(await ok(["embed", "--lines", "-m", embedder], input)), both)
    assert.deepStrictEqual(vectors(await ok(["embed", "-l", "-", "-m", embedder], input)), both)
    assert.lengthOf(vectors(await ok(["embed", "-m", embedder], input)), 1)
    assert.lengthOf(vectors(await ok(["embed", "-", "-m", embedder], input)), 1)
    assert.deepStrictEqual(
      server.requests.filter(({ path }) => path === "/api/embed").map(({ body }) => body.input),
      [["one", "two"], ["one", "two"], ["one", "two"], ["one\ntwo"], ["one\ntwo"]]
    )
    const whole = JSON.parse(await ok(["embed", "one", "-m", embedder, "--json", "--dimensions", "4"], setup))
    assert.deepInclude(whole, { model: embedder, server: server.url, attempts: [] })
    assert.lengthOf(whole.embeddings[0], 4)
  })

  it("reports errors", async () => {
    const setup = on(await ollama({ models: [{ name: embedder, capabilities: ["embedding"] }] }))
    assert.include(await refused(["embed", "one"], setup, 2), "--model must name a model")
    assert.include(await failed(["embed", "-m", embedder], setup, 2), "there is no text")
    assert.include(await failed(["embed", "--lines", "one", "-m", embedder], setup, 2), "--lines reads standard input")
    assert.include(await refused(["embed", "one", "", "-m", embedder], setup, 2), "text 2 of 2 is empty")
    assert.include(
      await failed(["embed", "--lines", "-m", embedder], { ...setup, input: "one\n\ntwo\n" }),
      "line 2 of standard input is empty"
    )
    assert.include(await refused(["embed", "one", "-m", embedder, "--dimensions", "0"], setup, 2), "--dimensions must")
    assert.include(
      await refused(["embed", "one", "-m", embedder, "--max-retries", "0"], setup, 2),
      "--max-retries must"
    )
    assert.include(await refused(["embed", "one", "-m", "embeder:1b"], setup), "Did you mean embedder:1b?")
  })
})

describe("aicortex sessions", () => {
  it("a conversation continues over several runs", async () => {
    const server = await ollama({ reply: ({ messages }) => `${messages.length} messages` })
    const path = folder()
    const setup = { ...on(server), env: { XDG_STATE_HOME: path } }
    assert.strictEqual((await run(["sessions"], setup)).stdout, "")
    assert.match((await run(["sessions"], setup)).stderr, /no conversation is kept; make one with/)
    const id = (await ok(["sessions", "create"], setup)).trim()
    assert.match(id, /^[0-9a-f]{16}$/)
    assert.strictEqual(await ok(["chat", "My name is Alice.", "--session", id], setup), "1 messages\n")
    assert.strictEqual(await ok(["chat", "Who am I?", "-s", "--session", id], setup), "3 messages\n")
    assert.strictEqual(
      await ok(["sessions", "show", id], setup),
      "user: My name is Alice.\nassistant: 1 messages\nuser: Who am I?\nassistant: 3 messages\n"
    )
    assert.match(await ok(["sessions", "list"], setup), new RegExp(`^ID .*\n${id} .* 4 +My name is Alice\\.\n$`))
    const listed = JSON.parse(await ok(["sessions", "--json"], setup))
    assert.deepInclude(listed[0], { id, messages: 4, opening: "My name is Alice." })

    const shown = await ok(["sessions", "show", id, "--json"], setup)
    assert.lengthOf(JSON.parse(shown).messages, 4)
    const copy = (await ok(["sessions", "create", "--from", "-"], { ...setup, input: shown })).trim()
    assert.notStrictEqual(copy, id)
    assert.strictEqual(await ok(["chat", "And now?", "--session", copy], setup), "5 messages\n")

    assert.strictEqual(await ok(["sessions", "reset", id], setup), "")
    assert.strictEqual(await ok(["sessions", "show", id], setup), "")
    assert.strictEqual(await ok(["sessions", "remove", id, copy], setup), "")
    assert.strictEqual(await ok(["sessions", "--json"], setup), "[]\n")
    assert.include(await failed(["sessions", "show", id], setup), `No session with id '${id}' found.`)
    assert.include(await failed(["sessions", "remove", "../config.json"], setup), "No session with id")
  })

  it("are in the store in the user's state folder, elsewhere or nowhere as configured", async () => {
    const path = folder()
    const setup = { env: { XDG_STATE_HOME: path } }
    const list = async (env: object = {}) =>
      JSON.parse(await ok(["sessions", "--json"], { env: { ...setup.env, ...env } })) as ReadonlyArray<{ id: string }>
    const id = (await ok(["sessions", "create"], setup)).trim()
    const store = join(path, "aicortex", "store.db")
    assert.isTrue(existsSync(store))
    assert.match(await ok(["config"], setup), new RegExp(`^store +${store} +default$`, "m"))
    for (const env of [{ AICORTEX_SESSIONS: "off" }, { AICORTEX_STORE: "memory" }, { AICORTEX_STORE: "off" }]) {
      await ok(["sessions", "create"], { env: { ...setup.env, ...env } })
    }
    const other = { AICORTEX_STORE: join(path, "other.db") }
    await ok(["sessions", "create"], { env: { ...setup.env, ...other } })
    assert.deepEqual(
      (await list()).map((one) => one.id),
      [id]
    )
    assert.lengthOf(await list(other), 1)
  })

  it("of an older version's folder are imported into the store once, and the folder is kept aside", async () => {
    const path = folder()
    const old = join(path, "aicortex", "sessions", "0123456789abcdef")
    mkdirSync(old, { recursive: true })
    writeFileSync(join(old, "1.json"), JSON.stringify({ messages: [{ role: "user", content: "Before." }] }))
    const setup = { env: { XDG_STATE_HOME: path } }
    assert.strictEqual(await ok(["sessions", "show", "0123456789abcdef"], setup), "user: Before.\n")
    assert.deepEqual(
      readdirSync(join(path, "aicortex")).filter((name) => name.startsWith("sessions")),
      ["sessions.imported"]
    )
    assert.lengthOf(JSON.parse(await ok(["sessions", "--json"], setup)), 1)
  })

  it("regression: use no more space than the file allows, also in the default store", async () => {
    const server = await ollama({ reply: "x".repeat(3_000) })
    const path = folder()
    const env = { XDG_STATE_HOME: path }
    const setup = { env, config: { servers: [server.url], sessions: { maxBytes: 10_000 } } }
    const ids: Array<string> = []
    for (let i = 0; i < 5; i++) {
      const id = (await ok(["sessions", "create"], setup)).trim()
      await ok(["chat", "Hi", "--session", id], setup)
      ids.push(id)
    }
    const left = (JSON.parse(await ok(["sessions", "--json"], setup)) as ReadonlyArray<{ id: string }>).map(
      ({ id }) => id
    )
    assert.sameMembers(left, ids.slice(-left.length))
    assert.include([2, 3], left.length)
    assert.match(await ok(["config"], setup), /^sessions +in the store \(at most 10000 bytes\) +the file$/m)
    assert.deepEqual(JSON.parse(await ok(["config", "--json"], setup)).settings.sessions, {
      folder: null,
      maxSessions: null,
      maxBytes: 10_000,
      ttl: null
    })
  })

  it("are found, named, copied, exported, imported and pruned", async () => {
    const path = folder()
    const setup = { env: { XDG_STATE_HOME: path } }
    const input = JSON.stringify([
      [
        { role: "user", content: "How high is K2?" },
        { role: "assistant", content: "8,611 m." }
      ],
      { title: "Trains", metadata: { project: "x" }, messages: [{ role: "user", content: "To Rome?" }] },
      { messages: [{ role: "robot", content: "" }] }
    ])
    const dry = await run(["sessions", "import", "-", "--dry-run"], { ...setup, input })
    assert.match(dry.stdout, /^a new id {2}2 messages\na new id {2}1 messages\n$/)
    const import_ = await run(["sessions", "import", "-", "--json"], { ...setup, input })
    assert.strictEqual(import_.code, 1)
    assert.include(import_.stderr, "1 of 3 conversations were refused:\n  3: messages.0.role")
    const [first, second] = (JSON.parse(import_.stdout) as { taken: ReadonlyArray<{ id: string }> }).taken.map(
      ({ id }) => id
    )
    assert.isDefined(second)
    if (first === undefined || second === undefined) return
    assert.match(
      await ok(["sessions", "list", "--metadata", "project=x"], setup),
      new RegExp(`^ID.*\n${second}.*Trains\n$`)
    )
    assert.match(
      await ok(["sessions", "search", "high", "k2"], setup),
      new RegExp(`^ID.*\n${first} +1 .*How high is K2\\?\n$`)
    )
    assert.strictEqual(await ok(["sessions", "title", first], setup), "How high is K2?\n")
    assert.strictEqual(await ok(["sessions", "title", first, "Mountains"], setup), "")
    const copy = (await ok(["sessions", "copy", first, "--new-title", "Copy"], setup)).trim()
    assert.strictEqual(
      await ok(["sessions", "export", copy, "--markdown"], setup),
      "# Copy\n\n**You:** How high is K2?\n\n**Model:** 8,611 m.\n"
    )
    const lines = await ok(["sessions", "export"], setup)
    assert.lengthOf(lines.trim().split("\n"), 3)
    const other = { env: { XDG_STATE_HOME: folder() } }
    assert.lengthOf((await ok(["sessions", "import", "-"], { ...other, input: lines })).trim().split("\n"), 3)
    assert.strictEqual(await ok(["sessions", "export"], other), lines)
    const pruned = await run(["sessions", "prune", "--older-than", "0s", "--title", "mount", "--dry-run"], setup)
    assert.match(pruned.stdout, new RegExp(`^ID.*\n${first}.*Mountains\n$`))
    assert.include(pruned.stderr, "1 conversations would be deleted")
    await ok(["sessions", "prune", "--older-than", "0s", "--title", "mount"], setup)
    assert.strictEqual(await ok(["sessions", "delete", second, copy], setup), "")
    assert.strictEqual(await ok(["sessions", "--json"], setup), "[]\n")
    for (const [args, code, message] of [
      [["sessions", "prune"], 2, "give --older-than DURATION"],
      [["sessions", "list", "--metadata", "x"], 2, "--metadata must be NAME=VALUE"],
      [["sessions", "list", "--used-since", "soon"], 2, "--used-since must be a time"],
      [["sessions", "list", "--cursor", "x"], 2, "--cursor must be"],
      [["sessions", "export", "--markdown"], 2, "--markdown needs the id"]
    ] as const) {
      assert.include(await refused(args, setup, code), message)
    }
    assert.include(
      await failed(["sessions", "import", "-"], { ...setup, input: "{" }),
      "standard input holds no conversations: it must be JSON"
    )
  })

  it("refuses a file that is not a conversation", async () => {
    const setup = { env: { XDG_STATE_HOME: folder() } }
    const from = (input: string) => failed(["sessions", "create", "--from", "-"], { ...setup, input })
    assert.include(await from("hello"), "standard input is not JSON")
    assert.include(await from('[{"role":"user"}]'), "standard input holds no conversation")
    assert.include(await failed(["sessions", "create", "--from", "nowhere.json"], setup), "nowhere.json does not exist")
    assert.include(await failed(["sessions", "--limit", "0"], setup, 2), "--limit must be a whole number from 1")
    assert.strictEqual((await run(["sessions", "remove"], setup)).code, 2)
  })
})

describe("aicortex chat --interactive", () => {
  it("asks each line of its input, in one conversation", async () => {
    const server = await ollama({ reply: ({ messages }) => `${messages.length}` })
    const setup = { ...on(server), env: { XDG_STATE_HOME: folder() } }
    const one = await run(["chat", "-i"], { ...setup, input: "a\n\n  b  \nexit()\nnever asked\n" })
    assert.deepEqual(one, { code: 0, stdout: "1\n3\n", stderr: "" })
    const [{ id, messages }] = JSON.parse(await ok(["sessions", "--json"], setup))
    assert.strictEqual(messages, 4)
    const more = await run(["chat", "-i", "--session", id, "--temperature", "0"], { ...setup, input: "c" })
    assert.deepEqual(more, { code: 0, stdout: "5\n", stderr: "" })
    assert.strictEqual(server.chatRequests.at(-1)?.body.options.temperature, 0)
  })

  it("ends with the error, and keeps no empty conversation", async () => {
    const server = await ollama({ faults: { kind: "status", code: 500 } })
    const setup = { ...on(server), env: { XDG_STATE_HOME: folder() } }
    const failing = await run(["chat", "-i"], { ...setup, input: "a\nb\n" })
    assert.deepEqual([failing.code, failing.stdout], [1, ""])
    assert.include(failing.stderr, "All server attempts failed")
    assert.deepEqual((await run(["chat", "-i"], { ...setup, input: "" })).code, 0)
    assert.strictEqual(await ok(["sessions", "--json"], setup), "[]\n")
    assert.include(await failed(["chat", "-i", "--session", "abc"], setup), "No session with id 'abc'")
    assert.include(
      await failed(["chat", "-i", "--json"], setup, 2),
      "--interactive cannot be given together with --json"
    )
    assert.include(await failed(["chat", "-i", "Hi"], setup, 2), "--interactive cannot be given together with a prompt")
  })
})

describe("aicortex servers, best, llm-params and config", () => {
  it("reports skipped registry records on standard error, up to a limit", async () => {
    const server = await ollama()
    const path = join(folder(), "registry")
    mkdirSync(path)
    const write = (records: ReadonlyArray<unknown>) => writeFileSync(join(path, "mine.json"), JSON.stringify(records))
    const setup = { config: { servers: [server.url], registry: path } }
    write([{ model_name: "good:1b" }, { size: 3 }])
    const one = await run(["models", "--search", "good"], setup)
    assert.strictEqual(one.code, 0)
    assert.strictEqual(one.stdout, "good:1b\n")
    assert.match(one.stderr, /^aicortex: left out: \S*mine\.json, record 1[^\n]*\n$/)
    write([{ model_name: "good:1b" }, ...Array.from({ length: 25 }, () => ({ size: 3 }))])
    const many = await run(["models", "--search", "good"], setup)
    assert.strictEqual(many.stdout, "good:1b\n")
    assert.strictEqual(many.stderr.split("\n").filter((line) => line !== "").length, 11)
    assert.include(many.stderr, "15 more")
    write([{ model_name: "good:1b" }])
    assert.strictEqual((await run(["models", "--search", "good"], setup)).stderr, "")
  })

  /** A registry file with speeds of every kind. */
  const registry = (servers: ReadonlyArray<readonly [url: string, more: object]>): string => {
    const path = join(folder(), "registry")
    mkdirSync(path)
    const records = servers.map(([url, more]) => ({ model_name: "llama3.2:3b", ip_port: url, ...more }))
    writeFileSync(join(path, "llama.json"), JSON.stringify(records))
    return path
  }

  it("shows the servers of a model with any speeds", async () => {
    const [a, b, c] = [await ollama(), await ollama(), await ollama()]
    const path = registry([
      [a.url, { perf_tokens_per_second: "94.25", ip_city_name_en: "Falkenstein", ip_country_iso_code: "DE" }],
      [b.url, { perf_tokens_per_second: "fast" }],
      [c.url, {}]
    ])
    const setup = { config: { registry: path } }
    const lines = (await ok(["servers", "llama3.2:3b"], setup)).trimEnd().split("\n")
    assert.match(lines[0] ?? "", /^URL +City +Country +TPS +First token +State$/)
    assert.match(lines[1] ?? "", new RegExp(`^${a.url} +\\S+ +\\S+ +94\\.3 +- +-$`))
    assert.match(lines[2] ?? "", new RegExp(`^${b.url} +- +- +- +- +-$`))
    assert.strictEqual(lines.length, 4)
    const json = JSON.parse(await ok(["servers", "llama3.2:3b", "--json"], setup))
    assert.strictEqual(json[0].tokens_per_second, 94.25)
    assert.strictEqual(await ok(["best", "llama3.2:3b"], setup), `${a.url}\n`)
    assert.strictEqual(JSON.parse(await ok(["best", "llama3.2:3b", "--json"], setup)).url, a.url)
    for (const strategy of ["random", "least-busy", "warm"]) {
      assert.include([a.url, b.url, c.url], (await ok(["best", "llama3.2:3b", "--strategy", strategy], setup)).trim())
    }
  })

  it("uses what the previous call learned, unless disabled", async () => {
    const server = await ollama({ firstToken: 5 })
    const hung = await ollama({ faults: { kind: "status", code: 500 } })
    const path = folder()
    const config = join(path, "config.json")
    const servers = [{ url: hung.url }, { url: server.url, priority: 1 }]
    writeFileSync(config, JSON.stringify({ servers, model: "llama3.2:3b" }))
    const env = { AICORTEX_CONFIG: config, XDG_STATE_HOME: path }
    assert.strictEqual(await ok(["chat", "hi"], { env }), "one two three\n")
    assert.strictEqual(await ok(["chat", "hi"], { env }), "one two three\n")
    assert.strictEqual(hung.chatRequests.length, 1)
    const [, first = "", second = ""] = (await ok(["servers", "llama3.2:3b"], { env })).split("\n")
    const [rests = "", has = ""] = first.includes(hung.url) ? [first, second] : [second, first]
    assert.match(rests, /rests for \d+ s$/)
    assert.match(has, / \d+\.\d +\d+ ms +loaded$/)
    const [json] = JSON.parse(await ok(["servers", "llama3.2:3b", "--json"], { env })).filter(
      ({ url }: { readonly url: string }) => url === server.url
    )
    assert.isAbove(json.learned.first_token_time, 0)

    const off = { env: { ...env, AICORTEX_STATE: "off", XDG_STATE_HOME: join(path, "none") } }
    await ok(["chat", "hi"], off)
    assert.strictEqual(hung.chatRequests.length, 2)
    assert.isFalse(existsSync(join(path, "none")))
  })

  it("continues if the learned state cannot be read", async () => {
    const server = await ollama()
    const path = folder()
    const file = join(path, "state.json")
    writeFileSync(file, "not JSON")
    const setup = { ...on(server), env: { AICORTEX_STATE: file } }
    const result = await run(["chat", "hi", "-m", "llama3.2:3b"], setup)
    assert.strictEqual(result.stdout, "one two three\n")
    assert.match(
      result.stderr,
      /^aicortex: [^\n]*state\.json, which holds what was learned of the servers, cannot be used: [^\n]+\n$/
    )
    assert.strictEqual((await run(["chat", "hi", "-m", "llama3.2:3b"], setup)).stderr, "")
  })

  it("fails for a model without servers", async () => {
    const server = await ollama({ models: ["tiny:1b"] })
    for (const args of [
      ["servers", "llama3.2:3b"],
      ["best", "llama3.2:3b"],
      ["llm-params", "llama3.2:3b"]
    ]) {
      assert.include(await refused(args, on(server)), "They have: tiny:1b")
    }
    assert.include(await refused(["servers", "tini:1b"], on(server)), "Did you mean tiny:1b")
    const gone = `http://127.0.0.1:${await unusedPort()}`
    for (const args of [["best", "llama3.2:3b"], ["llm-params"]]) {
      assert.strictEqual(
        await refused(args, on({ url: gone })),
        `No servers available for model 'llama3.2:3b': ${gone} could not be asked (refused the connection).`
      )
    }
    assert.include(
      await refused(["best", "llama3.2:3b"], on(server, { url: gone })),
      `none of ${server.url} has it, and ${gone} could not be asked (refused the connection). They have: tiny:1b`
    )
    assert.include(await refused(["best", "tini:1b"], on({ url: gone })), `${gone} could not be asked`)
    const secure = server.url.replace("http:", "https:")
    assert.include(
      (await run(["servers"], on({ url: secure }))).stdout,
      "speaks no TLS: its address may begin with http://"
    )
  })

  it.runIf(alone)("says how to add a server, with the command for it", async () => {
    const none = /no server is known\. Add one with `aicortex servers add \S+`, or name yours in AICORTEX_SERVERS/
    for (const args of [["servers", "llama3.2:3b"], ["best", "llama3.2:3b"], ["llm-params"]]) {
      const message = await refused(args)
      assert.match(message, none)
      assert.notMatch(message, /createCortex|aicortex-demo/)
    }
    const message = await refused(["chat", "x", "-m", "llama3.2:3b"])
    assert.match(message, none)
    assert.include(message, "or ask the built-in model with `-m aicortex-demo`.")
  })

  it("the error says that the built-in model has no address", async () => {
    const server = await ollama()
    for (const setup of [on(server), await nobody()]) {
      for (const name of ["aicortex-demo", "aicortex-demo:latest"]) {
        for (const command of ["llm-params", "best"]) {
          const message = await refused([command, name], setup)
          assert.match(message, /^the built-in model "aicortex-demo" has no address/)
          assert.notInclude(message, "ollama")
        }
        assert.include(JSON.parse(await printed(["best", name, "--json"], setup)), {
          url: "embedded:",
          protocol: "embedded"
        })
      }
    }
  })

  it("prints parameters for other clients", async () => {
    const server = await ollama()
    const expected = { model: "llama3.2:3b", base_url: server.url, baseUrl: server.url }
    assert.deepStrictEqual(JSON.parse(await ok(["llm-params"], on(server))), expected)
    assert.deepStrictEqual(JSON.parse(await ok(["llm-params", "llama3.2:3b"], on(server))), expected)
  })

  it("adds, lists and removes servers", async () => {
    const server = await ollama()
    const other = await startFakeOpenAI({ models: ["gpt:1"], apiKey: "s3cret" })
    stops.push(other.stop)
    const dead = `http://127.0.0.1:${await unusedPort()}`
    const env = { AICORTEX_CONFIG: join(folder(), "deeper", "config.json") }
    const file = env.AICORTEX_CONFIG
    const saved = () => JSON.parse(readFileSync(file, "utf8"))

    const added = await ok(["servers", "add", `${server.url}/`], { env })
    assert.strictEqual(added, `Added ${server.url} to ${file}.\nIt answers: ollama, 1 model.\n`)
    assert.deepStrictEqual(saved(), { servers: [server.url] })
    assert.strictEqual(statSync(file).mode & 0o777, 0o600)
    assert.include(await failed(["servers", "add", server.url.toUpperCase()], { env }), "already")

    writeFileSync(file, JSON.stringify({ model: "m", personas: { p: "x" }, ...saved() }))
    chmodSync(file, 0o644)
    const more = "--protocol openai --location 52.52,13.4 --city Berlin --country DE --weight 2 --priority -1"
    const args = ["servers", "add", `${other.url}/v1`, ...more.split(" "), "--max-in-flight", "4"]
    const keyed = await ok([...args, "--api-key-env", "THE_KEY"], { env: { ...env, THE_KEY: "s3cret" } })
    assert.include(keyed, "It answers: openai, 1 model.")
    assert.strictEqual(statSync(file).mode & 0o777, 0o600)
    const entry = {
      url: `${other.url}/v1`,
      protocol: "openai",
      weight: 2,
      priority: -1,
      maxInFlight: 4,
      location: { latitude: 52.52, longitude: 13.4, city: "Berlin", country: "DE" },
      apiKey: { env: "THE_KEY" }
    }
    assert.deepStrictEqual(saved(), { model: "m", personas: { p: "x" }, servers: [server.url, entry] })

    const unreachable = await ok(["servers", "add", dead], { env: { ...env, THE_KEY: "s3cret" } })
    assert.include(unreachable, "It does not answer yet: it refused the connection.")
    const listed = (await ok(["servers", "list"], { env: { ...env, THE_KEY: "s3cret" } })).trimEnd().split("\n")
    assert.match(listed[0] ?? "", /^URL +Protocol +Version +Latency +Models +Loaded +Status$/)
    assert.match(listed[1] ?? "", /ollama +0\.33\.0 +\d+ ms +1 +- +reachable$/)
    assert.match(listed[2] ?? "", /openai +- +\d+ ms +1 +- +reachable$/)
    assert.match(listed[3] ?? "", /- +- +refused the connection$/)
    const json = JSON.parse(await ok(["servers", "--json"], { env: { ...env, THE_KEY: "s3cret" } }))
    assert.deepStrictEqual(
      json.map((one: { readonly reachable: boolean }) => one.reachable),
      [true, true, false]
    )

    await ok(["servers", "remove", `${other.url}/v1/`], { env })
    await ok(["servers", "remove", dead], { env })
    assert.deepStrictEqual(saved(), { model: "m", personas: { p: "x" }, servers: [server.url] })
    assert.include(await failed(["servers", "remove", dead], { env }), "names no server")
    await ok(["servers", "remove", server.url], { env })
    assert.deepStrictEqual(saved(), { model: "m", personas: { p: "x" } })
  })

  it("an empty list in the file means no servers, not even the local one; an empty variable is ignored", async () => {
    const config = { servers: [] }
    assert.match(await printed(["config"], { config }), /^servers +- +the file$/m)
    const env = { AICORTEX_SERVERS: " , " }
    assert.match(
      await printed(["config"], { config: { servers: ["http://a"] }, env }),
      /^servers +http:\/\/a +the file$/m
    )
  })

  it("reads a key from standard input, does not print it, and writes through a symbolic link", async () => {
    const server = await ollama({ apiKey: "s3cret" })
    const path = folder()
    const real = join(path, "real.json")
    const file = join(path, "config.json")
    writeFileSync(real, "{}")
    symlinkSync(real, file)
    const env = { AICORTEX_CONFIG: file }
    const added = await run(["servers", "add", server.url, "--ask-api-key"], { env, input: "s3cret\n" })
    assert.strictEqual(added.code, 0, added.stderr)
    assert.include(added.stdout, "It answers")
    assert.notInclude(added.stdout + added.stderr, "s3cret")
    assert.strictEqual(JSON.parse(readFileSync(real, "utf8")).servers[0].apiKey, "s3cret")
    for (const more of [[], ["--json"]]) {
      const shown = await ok(["config", ...more], { env })
      assert.include(shown, server.url)
      assert.notInclude(shown, "s3cret")
    }
    assert.include(await failed(["servers", "add", "http://other", "--ask-api-key"], { env }, 2), "standard input")
  })

  it("keeps all servers that are added concurrently, and ignores a stale lock", async () => {
    const path = folder()
    const file = join(path, "config.json")
    const setup = { env: { AICORTEX_CONFIG: file } }
    const port = await unusedPort()
    const urls = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"].map((host) => `http://${host}:${port}`)
    await Promise.all(urls.map((url) => ok(["servers", "add", url], setup)))
    assert.deepEqual([...JSON.parse(readFileSync(file, "utf8")).servers].sort(), urls)
    const lock = `${file}.lock`
    mkdirSync(lock)
    utimesSync(lock, new Date(0), new Date(0))
    await ok(["servers", "remove", urls[0] ?? ""], setup)
    assert.deepEqual(readdirSync(path), ["config.json"])
    mkdirSync(lock)
    const held = await failed(["servers", "remove", urls[1] ?? ""], setup)
    assert.match(held, /another process is changing it; if none is, delete \S+config\.json\.lock/)
  })

  it("refuses an invalid server, and leaves the file unchanged", async () => {
    const path = folder()
    const env = { AICORTEX_CONFIG: join(path, "config.json") }
    const no = (...args: ReadonlyArray<string>) => refused(["servers", "add", ...args], { env })
    const address = await refused(["servers", "add", "ftp://x"], { env }, 2)
    assert.match(address, /^URL: 'ftp:\/\/x' must begin with http.* See `aicortex servers add --help`\.$/)
    const flag = (...args: ReadonlyArray<string>) => refused(["servers", "add", "http://x", ...args], { env }, 2)
    assert.match(await flag("--location", "north"), /^--location: no city 'north' is known/)
    assert.match(
      await flag("--weight", "0"),
      /^--weight must be a number above 0, not '0'\. See `aicortex servers add --help`\.$/
    )
    assert.match(await flag("--max-in-flight", "0"), /^--max-in-flight must be .*, not '0'\. See/)
    assert.include(await no("http://x", "--api-key-env", "NOT_SET"), "NOT_SET is not set")
    writeFileSync(env.AICORTEX_CONFIG, '{"servers": 1}')
    assert.include(await no("http://x"), "config.json")
    assert.strictEqual(readFileSync(env.AICORTEX_CONFIG, "utf8"), '{"servers": 1}')
  })

  it("says when the environment overrides the file", async () => {
    const server = await ollama()
    const result = await run(["servers", "add", server.url], { env: { AICORTEX_SERVERS: "http://127.0.0.1:1" } })
    assert.match(result.stderr, /^aicortex: AICORTEX_SERVERS is set, and overrides the servers of the file/)
  })

  it("shows where settings come from", async () => {
    const setup = {
      config: { model: "m", serverCooldown: 5, servers: ["http://a"] },
      env: { AICORTEX_SERVERS: "http://u:p@b:1", AICORTEX_LOCATION: "1,2" }
    }
    const table = await printed(["config"], setup)
    assert.match(table, /^model +m +the file$/m)
    assert.match(table, /^servers +http:\/\/b:1 \(with a key\) +AICORTEX_SERVERS$/m)
    assert.match(table, /^serverCooldown +5 s +the file$/m)
    assert.match(table, /^location +1,2 +AICORTEX_LOCATION$/m)
    assert.match(table, /^personas +- +default$/m)
    assert.deepInclude(JSON.parse(await printed(["config", "--json"], setup)).origins, { model: "the file" })
  })
})

describe("aicortex chat --cache", () => {
  const reply = (_: unknown, n: number) => `answer ${n}`

  it("gives the cached answer of an earlier command, and sends a request otherwise", async () => {
    const server = await ollama({ reply })
    const env = { XDG_CACHE_HOME: folder(), AICORTEX_SERVERS: server.url }
    const ask = (setup: Setup, ...args: ReadonlyArray<string>) =>
      ok(["chat", "Hi", "--model", "llama3.2:3b", ...args], { env, ...setup })
    assert.strictEqual(await ask({}, "--cache"), "answer 0\n")
    assert.strictEqual(await ask({}, "--cache"), "answer 0\n")
    assert.strictEqual(await ask({}, "--cache-ttl", "60", "--stream"), "answer 0\n")
    assert.strictEqual(await ask({}), "answer 1\n")
    assert.strictEqual(await ask({}, "--cache-ttl", "0.001"), "answer 2\n")
    const configured = { config: { cache: { ttl: 60 } } }
    assert.strictEqual(await ask(configured), "answer 3\n")
    assert.strictEqual(await ask(configured), "answer 3\n")
    assert.strictEqual(await ask(configured, "--no-cache"), "answer 4\n")
    const verbose = await run(["chat", "Hi", "--cache", "--verbose"], { env })
    assert.include(verbose.stderr, "cached from an earlier call")
    assert.match(await ok(["config"], { env, ...configured }), /^cache +answers for 60 s +the file$/m)
    const both = await failed(["chat", "Hi", "--cache", "--no-cache"], { env }, 2)
    assert.include(both, "--no-cache cannot be given together with --cache.")
  })

  it("reports an unreadable cache on standard error", async () => {
    const server = await ollama({ reply })
    const env = { XDG_CACHE_HOME: folder(), AICORTEX_SERVERS: server.url }
    const ask = () => run(["chat", "Hi", "--cache"], { env })
    await ask()
    const kept = join(env.XDG_CACHE_HOME, "aicortex", "responses")
    for (const name of readdirSync(kept)) writeFileSync(join(kept, name), "{")
    const { code, stderr, stdout } = await ask()
    assert.deepEqual({ code, stdout }, { code: 0, stdout: "answer 1\n" })
    assert.match(stderr, /^aicortex: The response cache could not read 'responses-/)
  })
})

const python = spawnSync("python3", ["-c", "import pty"]).status === 0

describe.runIf(python)("on a terminal", () => {
  const pty = `
import fcntl, os, pty, select, struct, sys, termios
pid, fd = pty.fork()
if pid == 0:
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, int(sys.argv[1]), 0, 0))
    os.execv(sys.argv[2], sys.argv[2:])
sources = [fd, 0]
while True:
    ready = select.select(sources, [], [])[0]
    if 0 in ready:
        typed = os.read(0, 65536)
        if typed: os.write(fd, typed)
        else: sources.remove(0)
    if fd not in ready: continue
    try: data = os.read(fd, 65536)
    except OSError: break
    if not data: break
    os.write(1, data)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`
  /** Escape characters are shown as ^[. */
  const terminal = async (columns: number, args: ReadonlyArray<string>, setup: Setup) => {
    const { code, stdout } = await ended(
      spawn("python3", ["-c", pty, String(columns), process.execPath, bin, ...args], {
        env: environment({ ...setup, env: { TERM: "xterm", ...setup.env } }),
        stdio: ["ignore", "pipe", "pipe"]
      })
    )
    return { code, screen: stdout.replaceAll("\u001b", "^[") }
  }

  it("shows what it waits for until the first token, then erases it", async () => {
    const server = await ollama({ firstToken: 500 })
    const { code, screen } = await terminal(80, ["chat", "x", "-s"], on(server))
    assert.strictEqual(code, 0, screen)
    assert.match(screen, /^(\r\^\[\[K\^\[\[2m[⠀-⣿] [^\r^]+ …( \d+ s)?\^\[\[22m)+\r\^\[\[Kone two three\r\n$/)
    assert.match(screen, /127\.0\.0\.1:\d+ is loading llama3\.2:3b …/)
    const plain = await terminal(80, ["chat", "x"], { ...on(server), env: { NO_COLOR: "1" } })
    assert.match(plain.screen, /^(\r\^\[\[K[⠀-⣿] [^\r^]+ …( \d+ s)?)+\r\^\[\[Kone two three\r\n$/)
    const dumb = await terminal(80, ["chat", "x"], { ...on(server), env: { TERM: "dumb" } })
    assert.strictEqual(dumb.screen, "one two three\r\n")
  })

  it("removes control sequences of an answer", async () => {
    const server = await ollama({ reply: "a \u001b]52;c;eA==\u0007b" })
    assert.notInclude(
      (await terminal(80, ["chat", "x", "-s"], on(server))).screen.replaceAll("\u001b[K", ""),
      "\u001b]"
    )
  })

  it("fits tables to its width", async () => {
    const server = await ollama()
    const setup = {
      config: { servers: [server.url, `http://127.0.0.1:${await unusedPort()}`] },
      env: { NO_COLOR: "1" }
    }
    const narrow = (await terminal(84, ["servers"], setup)).screen.trimEnd().split("\r\n")
    for (const line of narrow) assert.isAtMost([...line].length, 84)
    // The error is shown as far as there is room.
    assert.match(narrow[2] ?? "", /…$/)
    assert.notInclude(narrow.join(), "^[")
    assert.include((await terminal(60, ["servers"], { ...setup, env: {} })).screen, "^[[1mURL")
  })

  it("regression: never truncates an address or the name of a model", async () => {
    const model = `${"long-".repeat(12)}model:7b`
    const server = await ollama({ models: [model], reply: "x" })
    const gone = `http://${"long-".repeat(12)}name.invalid`
    const setup = { config: { servers: [server.url, gone], model }, env: { NO_COLOR: "1" } }
    assert.include((await terminal(40, ["chat", "x"], setup)).screen, "x")
    const { screen } = await terminal(40, ["servers"], setup)
    for (const part of [server.url, gone]) assert.include(screen, part)
    assert.include((await terminal(40, ["servers", model], setup)).screen, server.url)
    assert.include((await terminal(40, ["config"], setup)).screen, model)
  })

  it("FORCE_COLOR turns colours on off a terminal or off on one, and NO_COLOR turns them off", async () => {
    const bold = (text: string) => text.includes("\u001b[1m") || text.includes("^[[1m")
    const servers = async (env: { readonly [name: string]: string }) =>
      bold(await ok(["config"], { env })) && bold(await ok(["config", "--help"], { env }))
    assert.isFalse(await servers({}))
    assert.isTrue(await servers({ FORCE_COLOR: "1" }))
    assert.isTrue(await servers({ FORCE_COLOR: "true", NO_COLOR: "1", TERM: "dumb" }))
    assert.isFalse(await servers({ FORCE_COLOR: "0" }))
    const shown = async (env: { readonly [name: string]: string }) =>
      bold((await terminal(80, ["config"], { env })).screen)
    assert.isTrue(await shown({}))
    assert.isTrue(await shown({ FORCE_COLOR: "", NO_COLOR: "" }))
    assert.isFalse(await shown({ FORCE_COLOR: "0" }))
    assert.isFalse(await shown({ FORCE_COLOR: "false" }))
    assert.isFalse(await shown({ NO_COLOR: "1" }))
  })

  it("refuses a prompt file that does not exist", async () => {
    const { code, screen } = await terminal(80, ["chat", "--json"], {})
    assert.strictEqual(code, 2)
    assert.include(screen, "there is no prompt")
  })

  it("holds a conversation, without failed turns, that a later run continues", async () => {
    const server = await ollama({ reply: ({ messages }) => `you said ${messages.length} things` })
    const path = folder()
    const setup = { ...on(server), env: { TERM: "dumb", XDG_STATE_HOME: path } }
    const child = spawn("python3", ["-c", pty, "80", process.execPath, bin, "chat"], {
      env: environment(setup),
      stdio: ["pipe", "pipe", "pipe"]
    })
    const end = ended(child)
    let screen = ""
    child.stdout.on("data", (text) => {
      screen += text
    })
    const shows = (part: string) => eventually(() => screen.includes(part), `${part} is shown: ${screen}`)
    const type = (text: string) => {
      screen = ""
      child.stdin.write(text)
    }
    await shows("> ")
    type("one\r")
    await shows("you said 1 things\r\n> ")
    await server.setBehaviour({ faults: { kind: "status", code: 500 } })
    type("lost\r")
    await shows("All server attempts failed")
    await shows("> ")
    await server.setBehaviour({ faults: { kind: "hang" } })
    const requestCount = server.chatRequests.length
    type("too long\r")
    await server.waitForChats(requestCount + 1)
    type("\u0003")
    await shows("> ")
    assert.isTrue(server.chatRequests.at(-1)?.aborted)
    await server.setBehaviour({ faults: undefined })
    type("two\r")
    await shows("you said 3 things\r\n> ")
    type("/reset\r")
    await shows("> ")
    type("three\r")
    await shows("you said 1 things\r\n> ")
    type("/exit\r")
    const { code } = await end
    assert.strictEqual(code, 0)
    const id = /--session ([0-9a-f]+)/.exec(screen)?.[1] ?? ""
    assert.strictEqual(await ok(["chat", "four", "--session", id], setup), "you said 3 things\n")
  })
})
