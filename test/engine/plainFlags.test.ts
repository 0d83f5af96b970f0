import * as Args from "@effect/cli/Args"
import * as CliConfig from "@effect/cli/CliConfig"
import * as Command from "@effect/cli/Command"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { describe, expect, it } from "vitest"
import { normalize } from "../../src/cli/commandLine.js"
import { options } from "../../src/cli/engine/flags.js"
import { readPlain } from "../../src/cli/engine/plainFlags.js"
import { engineShape } from "../../src/cli/engine.js"

/** What the parser of the command line reads; `undefined` where it refuses. */
const parsed = async (words: ReadonlyArray<string>): Promise<unknown> => {
  const read = normalize({ about: [], examples: [], flags: new Map(), children: { engine: engineShape } }, [
    "engine",
    ...words
  ])
  if (Either.isLeft(read) || read.right.words === undefined) return undefined
  let found: unknown
  const command = Command.make("engine", { ...options, file: Args.text({ name: "FILE" }) }, (flags) =>
    Effect.sync(() => {
      found = flags
    })
  )
  const root = Command.make("aicortex").pipe(Command.withSubcommands([command]))
  const run = Command.run(root, { name: "aicortex", version: "1" })(["node", "aicortex", ...read.right.words])
  const layer = Layer.merge(NodeContext.layer, CliConfig.layer({ isCaseSensitive: true, showBuiltIns: false }))
  const exit = await Effect.runPromiseExit(Effect.provide(run, layer))
  return Exit.isSuccess(exit) ? found : undefined
}

const values = {
  host: ["127.0.0.1", "::1", "localhost"],
  port: ["0", "8080", "65535"],
  name: ["m", "my/model:1", "qwen3-4b@q4", "Q_4+1"],
  ctx: ["0", "512", "16777216"],
  ngl: ["-1", "0", "99"],
  threads: ["-1", "8", "1024"],
  parallel: ["1", "256"],
  temp: ["0", "0.8", "1.25", "2"],
  "max-tokens": ["0", "100"]
}

describe("flags of the engine in their plain form", () => {
  it("every flag has the same meaning as in the command line's parser", async () => {
    const valued = Object.entries(values).flatMap(([flag, all]) =>
      all.flatMap((value) => [[`--${flag}`, value], [`--${flag}=${value}`]])
    )
    const single = ["insecure", "embeddings", "stdin-guard"].map((flag) => [`--${flag}`])
    const known = new Set([...valued, ...single].map(([word = ""]) => word.split("=")[0]))
    for (const flag of engineShape.flags.keys()) {
      if (flag.startsWith("--") && flag !== "--help") expect(known).toContain(flag)
    }
    const every = Object.entries(values).flatMap(([flag, [value = ""]]) => [`--${flag}`, value])
    const lines = [[], ...valued, ...single, [...every, ...single.flat()]].flatMap((flags) => [
      [...flags, "model.gguf"],
      ["/models/a b.gguf", ...flags]
    ])
    for (const words of lines) {
      const plain = readPlain(words)
      expect(plain, words.join(" ")).toBeDefined()
      expect(plain, words.join(" ")).toEqual(await parsed(words))
    }
  })

  it.each([
    [[]],
    [["a.gguf", "b.gguf"]],
    [["a.gguf", "--help"]],
    [["-h"]],
    [["a.gguf", "--", "b.gguf"]],
    [["a.gguf", "--ctx"]],
    [["a.gguf", "--ctx", "many"]],
    [["a.gguf", "--ctx", "1e3"]],
    [["a.gguf", "--ctx", "16777217"]],
    [["a.gguf", "--ctx", "512", "--ctx", "512"]],
    [["a.gguf", "--ngl", "-2"]],
    [["a.gguf", "--threads", "-0"]],
    [["a.gguf", "--parallel", "0"]],
    [["a.gguf", "--port", "65536"]],
    [["a.gguf", "--name", "--ctx"]],
    [["a.gguf", "--name="]],
    [["a.gguf", "--host", " "]],
    [["a.gguf", "--embeddings=true"]],
    [["a.gguf", "--unknown"]],
    [["a.gguf", "--toString", "1"]],
    [["", "--ctx", "512"]]
  ])("leaves %j to the command line's parser", (words) => {
    expect(readPlain(words)).toBeUndefined()
  })
})
