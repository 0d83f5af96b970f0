import { type ChildProcess, spawn } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { Json } from "../support/script.js"

/** A folder of its own for one agent: its settings, and a place to work in. */
export interface Home extends Disposable {
  readonly path: string
  readonly work: string
}

/** What an agent is started with. */
export interface Start {
  readonly url: string
  readonly home: Home
  readonly question: string
  /** The conversation that is gone on with, as an earlier run named it. */
  readonly conversation?: string | undefined
  readonly env?: Readonly<Record<string, string>>
}

/** An agent at work. */
export interface Run {
  readonly child: ChildProcess
  /** The lines of JSON that it has printed. */
  readonly events: ReadonlyArray<Json>
  readonly output: () => string
  /** Settles when it has ended: with its exit code, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals | null>
}

/** How one agent is used. */
export interface Agent {
  readonly name: string
  readonly start: (start: Start) => Promise<Run>
  /** Every text that it shows as the model's, in order. */
  readonly answers: (run: Run) => ReadonlyArray<string>
  /** The answer as it came, piece by piece, where it shows that. */
  readonly deltas?: (run: Run) => string
  /** The name of the conversation. */
  readonly conversation: (run: Run) => string
  /** A call of one of its own tools that reads a file of its working directory. */
  readonly reads: (home: Home, file: string) => { readonly name: string; readonly arguments: Json }
}

export const model = "m:1b"
const key = "the-key-of-agents"

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))

export const makeHome = (): Home => {
  const path = mkdtempSync(join(tmpdir(), "aicortex-agent-"))
  const work = join(path, "work")
  mkdirSync(work)
  return {
    path,
    work,
    // What an agent left running may still write there.
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true, maxRetries: 5 })
  }
}

const write = (path: string, content: string | Json) => {
  mkdirSync(join(path, ".."), { recursive: true })
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content))
}

const bin = fileURLToPath(new URL("../../dist/bin.js", import.meta.url))

/** Writes the agent's settings as its users do: with `aicortex setup`. */
const setUp = async (program: string, start: Start, env: Readonly<Record<string, string>> = {}): Promise<void> => {
  const args = ["setup", program, "--url", start.url, "--model", model, "--key-env", "AICORTEX_API_KEY", "--yes"]
  const run = launch(start, process.execPath, [bin, ...args], { AICORTEX_API_KEY: key, ...env })
  if ((await run.ended) !== 0) throw new Error(run.output())
}

const launch = (
  { home, env: further }: Start,
  command: string,
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>>
): Run => {
  const child = spawn(command, args, {
    cwd: home.work,
    stdio: ["ignore", "pipe", "pipe"],
    // Nothing of the environment that the tests run in: it may hold keys, and settings of the same agents.
    env: { PATH: process.env["PATH"], HOME: home.path, TMPDIR: home.path, LANG: "C.UTF-8", ...env, ...further }
  })
  const events: Array<Json> = []
  let output = ""
  let rest = ""
  const take = (line: string) => {
    try {
      events.push(JSON.parse(line))
    } catch {
      // What is not JSON is shown where the test fails.
    }
  }
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text
    const lines = (rest + text).split("\n")
    rest = lines.pop() ?? ""
    lines.forEach(take)
  })
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    output += text
  })
  const ended = new Promise<number | NodeJS.Signals | null>((resolve, reject) => {
    child.once("error", reject)
    child.once("close", (code, signal) => {
      take(rest)
      resolve(code ?? signal)
    })
  })
  return { child, events, output: () => output, ended }
}

const codex: Agent = {
  name: "Codex",
  start: async (start) => {
    const { conversation, home, question } = start
    const settings = `
      approval_policy = "never"
      sandbox_mode = "danger-full-access"
      check_for_update_on_startup = false
      analytics.enabled = false
      feedback.enabled = false
      features.plugins = false
      features.apps = false
    `
    write(join(home.path, "codex/config.toml"), settings.replace(/^ +/gm, ""))
    await setUp("codex", start, { CODEX_HOME: join(home.path, "codex") })
    const target = "node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex"
    const flags = ["--json", "--skip-git-repo-check"]
    const args =
      conversation === undefined ? ["exec", ...flags, question] : ["exec", "resume", ...flags, conversation, question]
    return launch(start, here(target), args, { CODEX_HOME: join(home.path, "codex"), AICORTEX_API_KEY: key })
  },
  answers: ({ events }) =>
    events
      .filter((event) => event.type === "item.completed" && event.item.type === "agent_message")
      .map((event) => event.item.text),
  conversation: ({ events }) => events.find((event) => event.type === "thread.started")?.thread_id ?? "",
  reads: (_, file) => ({ name: "exec_command", arguments: { cmd: `cat ${file}` } })
}

const claude: Agent = {
  name: "Claude Code",
  start: async (start) => {
    const { conversation, home, question } = start
    await setUp("claude", start, { CLAUDE_CONFIG_DIR: join(home.path, "claude") })
    const args = ["--print", "--output-format", "stream-json", "--include-partial-messages", "--verbose"]
    if (conversation !== undefined) args.push("--resume", conversation)
    args.push("--allowedTools", "Read", "--", question)
    return launch(start, here("node_modules/@anthropic-ai/claude-code-linux-x64/claude"), args, {
      CLAUDE_CONFIG_DIR: join(home.path, "claude"),
      AICORTEX_API_KEY: key,
      CLAUDE_CODE_MAX_RETRIES: "0",
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
      DISABLE_AUTOUPDATER: "1",
      DISABLE_ERROR_REPORTING: "1",
      DISABLE_TELEMETRY: "1"
    })
  },
  answers: ({ events }) =>
    events
      .filter((event) => event.type === "assistant")
      .flatMap((event) => event.message.content)
      .filter((part) => part.type === "text")
      .map((part) => part.text),
  deltas: ({ events }) =>
    events
      .filter((event) => event.type === "stream_event" && event.event.delta?.type === "text_delta")
      .map((event) => event.event.delta.text)
      .join(""),
  conversation: ({ events }) => events.find((event) => event.subtype === "init")?.session_id ?? "",
  reads: (home, file) => ({ name: "Read", arguments: { file_path: join(home.work, file) } })
}

const opencode: Agent = {
  name: "opencode",
  start: async (start) => {
    const { conversation, home, question } = start
    write(join(home.path, ".config/opencode/opencode.json"), {
      autoupdate: false,
      share: "disabled",
      enabled_providers: ["aicortex"],
      permission: { "*": "allow" },
      // It asks for a title beside the first answer.
      agent: { title: { disable: true } },
      provider: { aicortex: { models: { [model]: { limit: { context: 128_000, output: 8_000 } } } } }
    })
    await setUp("opencode", start)
    // It installs a package of its own into its folder of settings, where it can.
    write(join(home.path, ".npmrc"), "offline=true\n")
    const args = ["run", "--format", "json"]
    if (conversation !== undefined) args.push("--session", conversation)
    return launch(start, here("node_modules/opencode-linux-x64-baseline/bin/opencode"), [...args, question], {
      AICORTEX_API_KEY: key,
      OPENCODE_DISABLE_AUTOUPDATE: "1",
      OPENCODE_DISABLE_DEFAULT_PLUGINS: "1",
      OPENCODE_DISABLE_LSP_DOWNLOAD: "1",
      OPENCODE_DISABLE_MODELS_FETCH: "1"
    })
  },
  answers: ({ events }) => events.filter((event) => event.type === "text").map((event) => event.part.text),
  conversation: ({ events }) => events[0]?.sessionID ?? "",
  reads: (home, file) => ({ name: "read", arguments: { filePath: join(home.work, file) } })
}

const sdk: Agent = {
  name: "@ai-sdk/openai",
  start: async (start) => {
    const conversation = start.conversation ?? join(start.home.path, "conversation.json")
    return launch(start, process.execPath, [here("sdk.mjs"), conversation, start.question], {
      OPENAI_BASE_URL: `${start.url}/v1`,
      OPENAI_API_KEY: key,
      MODEL: model,
      CONVERSATION: conversation
    })
  },
  answers: ({ events }) => events.filter((event) => event.type === "answer").map((event) => event.text),
  deltas: ({ events }) =>
    events
      .filter((event) => event.type === "delta")
      .map((event) => event.text)
      .join(""),
  conversation: ({ child }) => child.spawnargs[2] ?? "",
  reads: (_, file) => ({ name: "read_file", arguments: { path: file } })
}

export const agents: ReadonlyArray<Agent> = [codex, claude, opencode, sdk]
