/** The Promise entry in projects that have nothing else, or an Effect that is not ours. */
import { execFile, execFileSync } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { build, type Metafile } from "esbuild"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { answering, installQuietly, pack, root, run, runProgram } from "../support/package.js"

const program = `
import { createCortex, InvalidRequest, type ChatEvent, type ServerOptions } from "aicortex/promise"

const server: ServerOptions = { url: process.argv[2] ?? "", apiKey: "secret" }
const cortex = createCortex({ servers: [server], configFile: false })
const options = { model: "tiny:latest" }
const text: string = await cortex.chat("The capital of France?", options)
let streamed = ""
for await (const event of await cortex.chat("The capital of France?", { ...options, stream: true })) {
  const seen: ChatEvent = event
  if (seen.type === "token") streamed += seen.content
}
const session = await cortex.Session.create()
const { text: whole, server: by } = await cortex.complete("The capital of France?", { ...options, session })
const turns = (await session.history()).length
const refused = await cortex.chat("", { ...options, temperature: 7 }).catch((error: unknown) => {
  if (!(error instanceof InvalidRequest)) throw error
  const field: string = error.field
  return \`\${error._tag} \${field}\`
})
await cortex.close()
console.log(JSON.stringify([text, streamed, whole, by === server.url, turns, refused]))
`

const printed = JSON.stringify(["It is Paris.", "It is Paris.", "It is Paris.", true, 2, "InvalidRequest temperature"])

/** With the types of a program taken out. */
const javaScript = (code: string) =>
  code
    .replace("type ChatEvent, type ServerOptions", "")
    .replace("InvalidRequest, ", "InvalidRequest")
    .replace(/const (\w+): \w+ =/g, "const $1 =")
    .replace("(error: unknown)", "(error)")

describe("the Promise entry", { timeout: 300_000 }, () => {
  let directory: string
  let tarball: string
  let ollama: Awaited<ReturnType<typeof answering>>
  const path = () => join(directory, "alone")

  const project = async (name: string, ...packages: ReadonlyArray<string>) => {
    const path = join(directory, name)
    await mkdir(path)
    await writeFile(join(path, "package.json"), JSON.stringify({ name, private: true, type: "module" }))
    for (const one of packages) await installQuietly(path, one)
    await writeFile(join(path, "program.mjs"), javaScript(program))
    await writeFile(join(path, "program.ts"), program)
    return path
  }

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "aicortex-promise-"))
    tarball = (await pack(directory)).tarball
    ollama = await answering()
  }, 300_000)

  afterAll(async () => {
    ollama.close()
    await rm(directory, { recursive: true, force: true })
  })

  describe("installed alone", () => {
    let path: string
    beforeAll(async () => {
      path = await project("alone", tarball)
    }, 300_000)

    it("installs no Effect, and works", async () => {
      assert.isFalse(existsSync(join(path, "node_modules/effect")))
      assert.isFalse(existsSync(join(path, "node_modules/fast-check")))
      assert.strictEqual(await runProgram(path, "program.mjs", ollama.url), printed)
    })

    it("has the built-in model and the command", async () => {
      const help = await run(path, join(path, "node_modules/.bin/aicortex"), "--help")
      assert.include(help, "aicortex")
      // What is bundled still finds the files of the package.
      await writeFile(
        join(path, "families.mjs"),
        `import { families, getModelInfo } from "aicortex/promise"
         console.log((await families()).includes("llama"), (await getModelInfo("aicortex-demo")).model_name)`
      )
      assert.strictEqual(await runProgram(path, "families.mjs"), "true aicortex-demo")
    })

    const resolutions = [
      { module: "ESNext", moduleResolution: "node" },
      { module: "Node16", moduleResolution: "node16" },
      { module: "NodeNext", moduleResolution: "nodenext" },
      { module: "ESNext", moduleResolution: "bundler" }
    ]
    for (const resolution of resolutions) {
      it(`has types for moduleResolution ${resolution.moduleResolution}, without Effect's`, async () => {
        const compilerOptions = {
          ...resolution,
          target: "ES2022",
          lib: ["ES2022"],
          strict: true,
          exactOptionalPropertyTypes: true,
          noEmit: true,
          skipLibCheck: false,
          typeRoots: [join(root, "node_modules/@types")],
          types: ["node"]
        }
        // They are types, and not `any`.
        const wrong = program.replace(/^const text: string/m, "// @ts-expect-error: it is a text\nconst text: number")
        await writeFile(join(path, "wrong.ts"), wrong)
        const file = join(path, `tsconfig.${resolution.moduleResolution}.json`)
        await writeFile(file, JSON.stringify({ compilerOptions, include: ["*.ts"] }))
        await run(path, process.execPath, join(root, "node_modules/typescript/bin/tsc"), "-p", file)
      })
    }
  })

  it("works next to Effect 4, which it does not touch", async () => {
    const path = await project("beside-effect-4", "effect@4", tarball)
    const { version } = JSON.parse(await readFile(join(path, "node_modules/effect/package.json"), "utf8"))
    assert.match(version, /^4\./)
    assert.strictEqual(await runProgram(path, "program.mjs", ollama.url), printed)
  })

  it("is one file, without fast-check", () => {
    const { inputs, outputs }: Metafile = JSON.parse(readFileSync(join(root, "dist/.bundle.json"), "utf8"))
    assert.isNotEmpty(Object.keys(inputs).filter((file) => file.includes("node_modules/effect/")))
    const used = Object.values(outputs).flatMap(({ inputs }) =>
      Object.entries(inputs).flatMap(([file, { bytesInOutput }]) => (bytesInOutput > 0 ? [file] : []))
    )
    assert.deepStrictEqual(
      used.filter((file) => /node_modules\/(fast-check|pure-rand)\//.test(file)),
      []
    )
  })

  it("has a browser entry that imports nothing of Node, also indirectly", async () => {
    // A module of Node, or one that is not there, is an error for a browser.
    const { metafile } = await build({
      entryPoints: [join(path(), "node_modules/aicortex/dist/bundle/browser.js")],
      absWorkingDir: path(),
      outdir: join(path(), "out"),
      bundle: true,
      splitting: true,
      format: "esm",
      platform: "browser",
      write: false,
      metafile: true,
      logLevel: "silent"
    })
    const files = Object.keys(metafile.inputs)
    assert.isAbove(files.length, 3)
    for (const file of files) assert.match(file, /dist\/bundle\/browser[\w.-]*\.js$/)
    for (const file of files) {
      const code = await readFile(join(path(), file), "utf8")
      assert.notMatch(code, /\brequire\(|\b(import|from)\s*\(?\s*["']node:/, file)
    }
    const failed = await build({
      stdin: { contents: `import "aicortex/promise"`, resolveDir: path() },
      bundle: true,
      platform: "browser",
      write: false,
      logLevel: "silent"
    }).catch((error: Error) => error.message)
    assert.include(String(failed), "node:", "the other entry is noticed")
  })

  it("next to another copy of Effect, sends no trace that is not recorded", async () => {
    const program = `
      import "effect"
      import { createServer } from "node:http"
      import { createCortex } from ${JSON.stringify(join(root, "dist/bundle/promise.js"))}
      const seen = []
      const server = createServer((request, response) => {
        if (request.method === "POST") seen.push(request.headers.traceparent ?? "none")
        response.end(JSON.stringify(request.method === "POST"
          ? { model: "m", message: { role: "assistant", content: "x" }, done: true, done_reason: "stop" }
          : { models: [{ name: "m", model: "m", details: {} }] }))
      }).listen(0, "127.0.0.1", async () => {
        const cortex = createCortex({ servers: [{ url: "http://127.0.0.1:" + server.address().port }] })
        await cortex.chat("Hi", { model: "m" })
        await cortex[Symbol.asyncDispose]()
        server.close()
        server.closeAllConnections()
        console.log(JSON.stringify(seen))
      })`
    const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", program], {
      cwd: root
    })
    assert.deepStrictEqual(JSON.parse(stdout), ["none"])
  })

  it("costs at most twice as much to import as `ai`", () => {
    const timed = (code: string): number => {
      const { user, system } = JSON.parse(
        execFileSync(
          process.execPath,
          ["--input-type=module", "-e", `${code}; console.log(JSON.stringify(process.cpuUsage()))`],
          { cwd: root, encoding: "utf8" }
        )
      )
      return user + system
    }
    const entry = JSON.stringify(join(root, "dist/bundle/promise.js"))
    const ours: Array<number> = []
    const theirs: Array<number> = []
    const floor: Array<number> = []
    for (let round = 0; round < 7; round++) {
      floor.push(timed(""))
      ours.push(timed(`await import(${entry})`))
      theirs.push(timed(`await import("ai")`))
    }
    const least = Math.min(...floor)
    const ratio = (Math.min(...ours) - least) / (Math.min(...theirs) - least)
    assert.isBelow(ratio, 2)
  })
})
