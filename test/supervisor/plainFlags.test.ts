import * as Args from "@effect/cli/Args"
import * as CliConfig from "@effect/cli/CliConfig"
import * as Command from "@effect/cli/Command"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { describe, expect, it } from "vitest"
import { normalize } from "../../src/cli/commandLine.js"
import { readForeground, readRun } from "../../src/cli/local/plainFlags.js"
import { runOptions, runShape, startOptions, startShape } from "../../src/cli/local.js"
import { pathsOfUser } from "../../src/supervisor/layout.js"
import { paths } from "../../src/supervisor/paths.js"

const root = { about: [], examples: [], flags: new Map(), children: { run: runShape, start: startShape } }

let found: unknown
const keep = (flags: unknown) =>
  Effect.sync(() => {
    found = flags
  })
const run = Command.make("run", { ...runOptions, model: Args.text({ name: "MODEL" }) }, keep)
const start = Command.make("start", { ...startOptions, models: Args.repeated(Args.text({ name: "MODEL" })) }, keep)
const cli = Command.run(Command.make("aicortex").pipe(Command.withSubcommands([run, start])), {
  name: "aicortex",
  version: "1"
})

/** What the parser of the command line reads; `undefined` where it refuses. */
const parsed = async (words: ReadonlyArray<string>): Promise<unknown> => {
  const read = normalize(root, words)
  if (Either.isLeft(read) || read.right.words === undefined) return undefined
  found = undefined
  const layer = Layer.merge(NodeContext.layer, CliConfig.layer({ isCaseSensitive: true, showBuiltIns: false }))
  const exit = await Effect.runPromiseExit(Effect.provide(cli(["node", "aicortex", ...read.right.words]), layer))
  return Exit.isSuccess(exit) ? found : undefined
}

describe("flags that are parsed without the command line's parser", () => {
  it.each([
    ["-d", "m.gguf"],
    ["m.gguf", "--detach", "--json"],
    ["--port", "0", "-d", "./a b.gguf"],
    ["-p", "8080", "m.gguf"],
    ["--port=65535", "m.gguf"],
    ["--ctx", "0", "--ngl", "-1", "--threads", "-1", "--parallel", "1", "m.gguf", "-d"],
    ["--ctx=8192", "--ngl=0", "--threads=4", "--parallel=8", "--replicas", "2", "m.gguf"],
    ["qwen3-4b", "--embeddings", "-d"]
  ])("run %j %j %j", async (...words) => {
    const plain = readRun(words)
    expect(plain).toBeDefined()
    expect(plain).toEqual(await parsed(["run", ...words]))
  })

  it.each([
    [[]],
    [["-d"]],
    [["-d", "a.gguf", "b.gguf"]],
    [["-d", "a.gguf", "--help"]],
    [["-d", "-d", "a.gguf"]],
    [["-dp", "0", "a.gguf"]],
    [["-p0", "a.gguf"]],
    [["a.gguf", "--ctx", "many"]],
    [["a.gguf", "--port", "65536"]],
    [["a.gguf", "--replicas", "0"]],
    [["a.gguf", "--temp", "1"]],
    [["a.gguf", "--engine", "ollama"]],
    [["a.gguf", "--keep-alive", "5"]],
    [["a.gguf", "--start-timeout", "5"]],
    [["a.gguf", "--base-image", "i"]],
    [["a.gguf", "--", "b"]],
    [["", "-d"]]
  ])("run %j is left to the parser", (words) => {
    expect(readRun(words)).toBeUndefined()
  })

  it.each([
    ["--foreground"],
    ["--foreground", "--json"],
    ["--foreground", "--port", "0"],
    ["--port=8080", "--host", "127.0.0.1", "--foreground"]
  ])("start %j %j %j", async (...words) => {
    const plain = readForeground(words)
    expect(plain).toBeDefined()
    expect(plain).toEqual(await parsed(["start", ...words]))
  })

  it.each([
    [[]],
    [["--json"]],
    [["--foreground", "m"]],
    [["--foreground", "--ctx", "1"]],
    [["--foreground", "--port"]]
  ])("start %j is left to the parser", (words) => {
    expect(readForeground(words)).toBeUndefined()
  })
})

describe("the folder of the supervisor", () => {
  it.each([
    [{ HOME: "/home/a" }],
    [{ HOME: "/home/a", XDG_STATE_HOME: "/state" }],
    [{ HOME: "/home/a", XDG_STATE_HOME: " " }],
    [{ USERPROFILE: "/users/a", HOME: "" }],
    [{}],
    [{ HOME: `/home/${"a".repeat(120)}`, XDG_RUNTIME_DIR: "/run/user/1" }]
  ])("is the same with Effect and without: %j", async (env: { readonly [name: string]: string }) => {
    const before = { ...process.env }
    try {
      for (const name of ["HOME", "USERPROFILE", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"]) delete process.env[name]
      Object.assign(process.env, env)
      const provider = ConfigProvider.fromMap(new Map(Object.entries(env)))
      const effect = Effect.withConfigProvider(paths, provider).pipe(Effect.provide(NodeContext.layer))
      expect(pathsOfUser()).toEqual(await Effect.runPromise(effect))
    } finally {
      for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name]
      Object.assign(process.env, before)
    }
  })
})
