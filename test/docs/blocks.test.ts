/** Every code block of README.md and docs/, and every program in examples/, executed as it stands there. */
import { spawnSync } from "node:child_process"
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import * as Schema from "effect/Schema"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import * as ConfigFile from "../../src/config/file.js"
import { type Block, claims, examples, missingClaim, type Page, pages, root } from "../support/docs/pages.js"
import { type Desk, openWorkshop, type Workshop } from "../support/docs/workshop.js"

/** What a block may be in. The first three are executed or checked; the others are only shown. */
const languages = ["ts", "sh", "json", "text", "toml", "yaml", "ini", "dockerfile", "promql", "python"]

const blocks = pages.flatMap((page) => page.blocks)
const of = (page: Page, language: string) => page.blocks.filter((block) => block.language === language)
const withBlocks = (language: string) => pages.filter((page) => of(page, language).length > 0)
const at = ({ line, page }: Block) => `${page}:${line}`

let workshop: Workshop
const programs = new Map<string, string>()
const programOf = (file: string) => programs.get(file) ?? assert.fail(`${file} was not built`)
const typeScript = () => [
  ...blocks.filter(({ language }) => language === "ts").map((block) => workshop.fileOf(block)),
  ...examples.map((path) => join(root, path))
]

beforeAll(async () => {
  workshop = await openWorkshop()
  for (const block of blocks) if (block.language === "ts") writeFileSync(workshop.fileOf(block), block.code)
  const files = typeScript()
  const built = await workshop.bundle(files)
  files.forEach((file, index) => void programs.set(file, built[index] ?? ""))
}, 600_000)

afterAll(() => workshop.close())

/** A block that names a file is that file, in the home of the page or in its working directory. */
const writeFiles = (page: Page, desk: Desk) => {
  for (const { code, file } of page.blocks) {
    if (file === undefined) continue
    const path = file.startsWith("~/") ? join(desk.home, file.slice(2)) : join(desk.work, file)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, code)
  }
}

/** Starts what goes on in the background. */
const isHeld = /^aicortex (run -d|start)\b/

/** The commands of a block: a line each, or several that end in a backslash. */
const commandsOf = (code: string): ReadonlyArray<string> =>
  code
    .replace(/\\\n\s*/g, " ")
    .split("\n")
    .filter((line) => line.trim() !== "" && !/^\s*#/.test(line))

describe("the documentation", () => {
  it("has code blocks in known languages only", () => {
    const others = blocks.filter(({ language }) => !languages.includes(language)).map(at)
    assert.deepStrictEqual(others, [])
  })

  it("type-checks, strictly", async () => {
    const { code, stdout } = await workshop.typeCheck(typeScript())
    assert.strictEqual(code, 0, stdout)
  }, 600_000)

  for (const block of blocks.filter(({ language }) => language === "json")) {
    const isConfig = block.file === undefined || /aicortex\/config\.json$/.test(block.file)
    it(`${at(block)}: is ${isConfig ? "a configuration file" : "JSON"}`, () => {
      if (!isConfig) return void JSON.parse(block.code)
      Schema.decodeUnknownSync(Schema.parseJson(ConfigFile.File), { onExcessProperty: "error" })(block.code)
    })
  }
})

describe.concurrent("in TypeScript", () => {
  for (const page of withBlocks("ts")) {
    const all = of(page, "ts")
    it(`${page.path}: ${all.length} blocks run, and print what they say`, async ({ onTestFinished }) => {
      const files = all.map((block) => programOf(workshop.fileOf(block)))
      const desk = workshop.desk()
      writeFiles(page, desk)
      // The page has it started in the terminal.
      if (all.some(({ code }) => code.includes("localhost:39281"))) {
        const command = of(page, "sh").flatMap(({ code }) => commandsOf(code).filter((one) => isHeld.test(one)))[0]
        const { stop } = await workshop.hold(desk, command ?? "")
        onTestFinished(stop)
      }
      const runner = join(root, "test/support/docs/runner.mjs")
      const env = { AICORTEX_MODEL: "aicortex-demo" }
      const { code, stderr, stdout } = await workshop.run(desk, process.execPath, [runner, ...files], env)
      const outputs = stdout.split("\n\0\n")
      const complaints = stderr.split("\n\0\n")
      all.forEach((block, index) => {
        assert.strictEqual(complaints[index]?.trim() ?? "", "", at(block))
        const missing = missingClaim(block.code, outputs[index] ?? "")
        assert.isUndefined(missing, `${at(block)} printed:\n${outputs[index]}`)
      })
      assert.strictEqual(code, 0, stdout)
    }, 300_000)
  }

  for (const path of examples) {
    it(`${path}: runs, and prints what it says`, async () => {
      const program = programOf(join(root, path))
      const env = { AICORTEX_SERVERS: "http://gpu-1:11434 http://gpu-2:11434" }
      const { code, stderr, stdout } = await workshop.run(workshop.desk(), process.execPath, [program], env)
      assert.strictEqual(code, 0, `${stdout}\n${stderr}`)
      assert.strictEqual(stderr, "")
      const source = readFileSync(join(root, path), "utf8")
      assert.isNotEmpty(claims(source), "it says what it prints")
      assert.isUndefined(missingClaim(source, stdout), stdout)
    }, 300_000)
  }
})

describe.concurrent("in the terminal", () => {
  // The blocks of a page follow one another, as a reader would type them: the server that one adds is there for the next.
  for (const page of withBlocks("sh")) {
    // Other tests do these.
    const commands = of(page, "sh").flatMap((block) =>
      commandsOf(block.code)
        .filter((command) => !/^(npm (test|install|run -s bench)\b|git clone |eval )/.test(command))
        .map((command) => ({ block, command }))
    )
    if (commands.length === 0) continue
    it(`${page.path}: ${commands.length} commands run, and print what they say`, async ({ onTestFinished }) => {
      const desk = workshop.desk()
      writeFiles(page, desk)
      if (page.text.includes("git diff")) changeSomething(desk)
      const exported: Array<string> = []
      for (const { block, command } of commands) {
        const name = `${at(block)}: ${command}`
        if (command.startsWith("export ")) {
          exported.push(command)
        } else if (command.endsWith(" &")) {
          const { port, stop } = await workshop.serve(desk, [...exported, command.slice(0, -2)].join("; "))
          desk.served[`127.0.0.1:${/--port (\d+)/.exec(command)?.[1] ?? 8000}`] = port
          onTestFinished(stop)
        } else if (isHeld.test(command)) {
          const { code, stderr, stdout, stop } = await workshop.hold(desk, command)
          onTestFinished(stop)
          assert.strictEqual(code, 0, `${name}\n${stdout}\n${stderr}`)
          for (const claim of claims(command)) assert.strictEqual(stdout.trim(), claim, name)
        } else {
          const inClone = command.startsWith("npm ")
          const script = inClone ? command : [...exported, command].join("\n")
          const { code, stderr, stdout } = await workshop.run(desk, "sh", ["-c", script])
          assert.strictEqual(code, 0, `${name}\n${stdout}\n${stderr}`)
          for (const claim of claims(command)) assert.strictEqual(stdout.replace(/\s+/g, " ").trim(), claim, name)
          if (!inClone) continue
          assert.match(stdout, /\w/, name)
          if (/ chat /.test(command)) assert.match(stderr, /^aicortex: [^\n]*"aicortex-demo" answers[^\n]*\n$/)
        }
      }
    }, 600_000)
  }
})

/** A change for `git diff` to show. */
const changeSomething = ({ work }: Desk) => {
  const git = (...args: ReadonlyArray<string>) => spawnSync("git", args, { cwd: work })
  git("init")
  writeFileSync(join(work, "notes"), "old\n")
  git("add", "notes")
  writeFileSync(join(work, "notes"), "new\n")
}

describe("requests of the examples", () => {
  it("reached the servers", () => {
    const seen = Object.values(workshop.servers).flatMap((server) => server.chatRequests.map(({ body }) => body))
    const messages = seen.flatMap((body) => body.messages)
    assert.isTrue(messages.some(({ content, role }) => role === "tool" && /"celsius":21/.test(content)))
    assert.isTrue(messages.some(({ content }) => content === "Explain neural networks in one sentence."))
  })
})
