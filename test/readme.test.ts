/** Every example of README.md, executed as it stands there. */
import { spawn, spawnSync } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { readFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import * as Schema from "effect/Schema"
import { build, type Plugin } from "esbuild"
import { afterAll, assert, beforeAll, describe, it, onTestFinished } from "vitest"
import * as ConfigFile from "../src/config/file.js"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "./support/fakeServer.js"
import { startGateway, type TestGateway } from "./support/gateway.js"
import type { Reply } from "./support/script.js"

const root = fileURLToPath(new URL("..", import.meta.url))
const text = readFileSync(join(root, "README.md"), "utf8")

// -----------------------------------------------------------------------------
// the examples
// -----------------------------------------------------------------------------

interface Example {
  readonly language: string
  readonly code: string
  /** The nearest title above it, and its line. */
  readonly name: string
}

const examples: ReadonlyArray<Example> = [...text.matchAll(/^```(.*)\n([\s\S]*?)^```$/gm)].map((match) => {
  const before = text.slice(0, match.index)
  const title = [...before.matchAll(/^(?:#+ (.+)|\*\*(.+)\*\*)$/gm)].at(-1)
  return {
    language: match[1] ?? "",
    code: match[2] ?? "",
    name: `${title?.[1] ?? title?.[2] ?? ""}, line ${before.split("\n").length + 1}`
  }
})
const of = (language: string) => examples.filter((example) => example.language === language)
const fileOf = (example: Example) => `example${examples.indexOf(example)}`

/** What an example says that it prints: `// => …` or `# => …`. */
const claims = (code: string): ReadonlyArray<string> =>
  [...code.matchAll(/(?:\/\/|#) => (.+)$/gm)].map((match) => (match[1] ?? "").trim())

// -----------------------------------------------------------------------------
// where they run
// -----------------------------------------------------------------------------

/** The model calls the first tool that it has; in all other ways it is the fake's default. */
const reply: Reply = (body) => {
  const last = body.messages.at(-1)
  if (last.role === "tool") return `The tool says ${last.content}.`
  if (body.tools?.length > 0) {
    return { tokens: "", toolCalls: [{ name: body.tools[0].function.name, arguments: { city: "Paris" } }] }
  }
  // Only who is told the name knows it.
  const name = /My name is (\w+)/.exec(JSON.stringify(body.messages))?.[1]
  if (name !== undefined && last.content === "What is my name?") return `Your name is ${name}.`
  return "The sky looks blue because air scatters short wavelengths the most."
}

const servers: Record<string, FakeServer> = {}
/** Where `aicortex serve` listens, for the examples that talk to it. */
const served: Record<string, { readonly port: number }> = {}
let gateway: TestGateway | undefined
const seen = () => Object.values(servers).flatMap((server) => server.chatRequests.map(({ body }) => body))

// Where Node and tsc look for packages.
const folder = mkdtempSync(join(tmpdir(), "aicortex-readme-"))
const home = join(folder, "home")
const work = join(folder, "work")
const path = join(folder, "path")

const environment = (extra: NodeJS.ProcessEnv): NodeJS.ProcessEnv => ({
  PATH: `${path}:${process.env["PATH"]}`,
  HOME: home,
  NO_COLOR: "1",
  NODE_OPTIONS: `--import=${pathToFileURL(join(root, "test/support/hosts.mjs")).href}`,
  TEST_HOSTS: JSON.stringify(
    Object.fromEntries(Object.entries({ ...servers, ...served }).map(([host, { port }]) => [host, port]))
  ),
  ...extra
})

const run = (
  command: string,
  args: ReadonlyArray<string>,
  cwd = work,
  env: NodeJS.ProcessEnv = {}
): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }> =>
  new Promise((resolve) => {
    const child = spawn(command, args, { cwd, env: environment(env), stdio: ["ignore", "pipe", "pipe"] })
    let stdout = ""
    let stderr = ""
    child.stdout.setEncoding("utf8").on("data", (data: string) => {
      stdout += data
    })
    child.stderr.setEncoding("utf8").on("data", (data: string) => {
      stderr += data
    })
    child.on("close", (code) => resolve({ code, stdout, stderr }))
  })

/** Starts a command that goes on in the background, and gives the port on which it listens. */
const background = (command: string): Promise<{ readonly port: number; readonly stop: () => Promise<void> }> =>
  new Promise((resolve, reject) => {
    const child = spawn("sh", ["-c", `exec ${command}`], {
      cwd: work,
      env: environment({ PORT: "0" }),
      stdio: ["ignore", "ignore", "pipe"]
    })
    const closed = new Promise<void>((done) => child.on("close", () => done()))
    let said = ""
    child.stderr.setEncoding("utf8").on("data", (data: string) => {
      said += data
      const port = /listening on http:\/\/127\.0\.0\.1:(\d+)/.exec(said)?.[1]
      if (port === undefined) return
      const stop = () => {
        child.kill()
        return closed
      }
      resolve({ port: Number(port), stop })
    })
    closed.then(() => reject(new Error(`${command} ended: ${said}`)))
  })

/** The package is its source, and a module finds its files as if it were not bundled. */
const fromSource: Plugin = {
  name: "from-source",
  setup(build) {
    build.onResolve({ filter: /^aicortex(\/promise)?$/ }, ({ path }) => ({
      path: join(root, "src", path === "aicortex" ? "index.ts" : "promise.ts")
    }))
    build.onLoad({ filter: /[\\/]src[\\/].*\.ts$/ }, async ({ path }) => ({
      loader: "ts",
      contents: (await readFile(path, "utf8")).replaceAll("import.meta.url", JSON.stringify(pathToFileURL(path).href))
    }))
  }
}

beforeAll(async () => {
  for (const one of [home, work, path]) mkdirSync(one)
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"))
  symlinkSync(join(root, "dist/bin.js"), join(path, "aicortex"))
  writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module" }))
  for (const example of of("ts")) writeFileSync(join(folder, `${fileOf(example)}.ts`), example.code)
  // A change for `git diff` to show.
  const git = (...args: ReadonlyArray<string>) => spawnSync("git", args, { cwd: work })
  git("init")
  writeFileSync(join(work, "notes"), "old\n")
  git("add", "notes")
  writeFileSync(join(work, "notes"), "new\n")

  const { code, stderr } = await run(process.execPath, ["scripts/setup.mjs"], root)
  assert.strictEqual(code, 0, stderr)

  const models = ["llama3.2:3b", { name: "nomic-embed-text:latest", capabilities: ["embedding"] }]
  servers["gpu-1:11434"] = await startFakeOllama({ models, reply, exposed: true })
  servers["gpu-2:11434"] = await startFakeOllama({ models, reply, exposed: true })
  gateway = await startGateway([servers["gpu-1:11434"].url])
  served["127.0.0.1:8000"] = gateway
  servers["llm.example.com:443"] = await startFakeOpenAI({ models, reply, apiKey: "secret" })

  await build({
    absWorkingDir: folder,
    entryPoints: of("ts").map((example) => `${fileOf(example)}.ts`),
    outdir: join(folder, "out"),
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node20",
    logLevel: "silent",
    external: ["node-llama-cpp"],
    banner: {
      js: 'import { createRequire as createRequire_ } from "node:module"; const require = createRequire_(import.meta.url);'
    },
    plugins: [fromSource]
  })
}, 120_000)

afterAll(async () => {
  await gateway?.close()
  await Promise.all(Object.values(servers).map((server) => server.stop()))
  rmSync(folder, { recursive: true, force: true })
})

// -----------------------------------------------------------------------------

describe("README.md", () => {
  it("has no example that nobody executes", () => {
    assert.deepStrictEqual([...new Set(examples.map(({ language }) => language))].sort(), ["json", "sh", "ts"])
  })

  it("installs versions that fit", () => {
    const { peerDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
    const lines = text.match(/^npm install .+$/gm)?.join(" ") ?? ""
    for (const [name, range] of Object.entries<string>(peerDependencies)) {
      // The command is bundled.
      if (name === "@effect/cli") continue
      const version = new RegExp(` ${name}(?:@(\\S+))?(?= |$)`).exec(lines)
      assert.isNotNull(version, name)
      if (/^(@effect\/|effect$)/.test(name))
        assert.isTrue(range.startsWith(`^${version?.[1]}.`), `${name}@${version?.[1]}`)
    }
  })

  it("has links that lead somewhere, and so have the other pages", () => {
    for (const page of ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]) {
      const content = readFileSync(join(root, page), "utf8")
      const titles = [...content.matchAll(/^#+ (.+)$/gm)].map(([, title = ""]) =>
        title
          .toLowerCase()
          .replace(/[^\w\s-]/g, "")
          .replace(/\s/g, "-")
      )
      for (const [, target = ""] of content.matchAll(/\]\(([^)\s]+)\)/g)) {
        if (target.startsWith("#")) assert.include(titles, target.slice(1), page)
        else if (!/^https?:/.test(target)) assert.isTrue(existsSync(join(root, target)), `${page}: ${target}`)
      }
    }
  })

  it("type-checks, strictly", async () => {
    const config = {
      extends: join(root, "tsconfig.json"),
      compilerOptions: { incremental: false, typeRoots: [join(root, "node_modules/@types")] },
      include: ["*.ts"]
    }
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(config))
    const tsc = join(root, "node_modules/typescript/bin/tsc")
    const { code, stdout } = await run(process.execPath, [tsc, "-p", folder])
    assert.strictEqual(code, 0, stdout)
  }, 120_000)

  for (const { code, name } of of("json")) {
    it(`${name}: is a configuration file`, () => {
      Schema.decodeUnknownSync(Schema.parseJson(ConfigFile.File), { onExcessProperty: "error" })(code)
    })
  }

  describe.concurrent("in TypeScript", () => {
    for (const example of of("ts")) {
      it(`${example.name}: runs, and prints what it says`, async () => {
        const file = join(folder, "out", `${fileOf(example)}.js`)
        const env = { AICORTEX_MODEL: "aicortex-demo" }
        const { code, stderr, stdout } = await run(process.execPath, [file], work, env)
        assert.strictEqual(code, 0, `${stdout}\n${stderr}`)
        assert.strictEqual(stderr, "")
        let left = stdout.split("\n").map((line) => line.trim())
        for (const claim of claims(example.code)) {
          assert.include(left, claim)
          left = left.slice(left.indexOf(claim) + 1)
        }
      })
    }
  })

  // They follow one another, as a reader would type them: the server that one adds is there for the next.
  describe.sequential("in the terminal", () => {
    for (const { code, name } of of("sh")) {
      // Other tests do these.
      const commands = code.split("\n").filter((line) => line !== "" && !/^npm (test|install)\b/.test(line))
      if (commands.length === 0) continue
      it(`${name}: runs, and prints what it says`, async () => {
        for (const command of commands) {
          if (command.endsWith(" &")) {
            const { port, stop } = await background(command.slice(0, -2))
            served["127.0.0.1:8000"] = { port }
            onTestFinished(stop)
            continue
          }
          const inClone = command.startsWith("npm ")
          const { code, stderr, stdout } = await run("sh", ["-c", command], inClone ? root : work)
          assert.strictEqual(code, 0, `${command}\n${stdout}\n${stderr}`)
          for (const claim of claims(command)) assert.strictEqual(stdout.replace(/\s+/g, " ").trim(), claim, command)
          if (inClone) {
            assert.match(stdout, /\w/, command)
            assert.match(stderr, /^aicortex: [^\n]*"aicortex-demo" answers[^\n]*\n$/)
          }
        }
      }, 60_000)
    }
  })
})

describe("what the examples of README.md asked for", () => {
  it("came to the servers", () => {
    const messages = seen().flatMap((body) => body.messages)
    assert.isTrue(messages.some(({ content, role }) => role === "tool" && /"celsius":21/.test(content)))
    assert.isTrue(messages.some(({ content }) => content === "Explain neural networks in one sentence."))
  })
})
