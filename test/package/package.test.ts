import { execFile } from "node:child_process"
import { existsSync } from "node:fs"
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { version } from "../../src/internal/version.js"

const root = fileURLToPath(new URL("../..", import.meta.url))
const tool = (name: string) => join(root, "node_modules/.bin", name)
const json = async (file: string) => JSON.parse(await readFile(file, "utf8"))

/** Runs a command to its end; when it fails, or does not end by itself, the error shows all that it printed. */
const execute = async (cwd: string, timeout: number, command: string, args: ReadonlyArray<string>): Promise<string> => {
  // What npm tells the scripts of this package is not meant for the npm of another directory.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([key]) => !/^npm_(package_|lifecycle_|config_(local|global)_prefix)/.test(key))
  )
  try {
    const { stdout } = await promisify(execFile)(command, args, {
      cwd,
      env: { ...env, NO_COLOR: "1" },
      maxBuffer: 1 << 26,
      timeout
    })
    return stdout.trim()
  } catch (error) {
    const { killed, stderr, stdout } = error as {
      readonly killed?: boolean
      readonly stdout?: string
      readonly stderr?: string
    }
    const end = killed ? "\nIt did not end by itself: something it opened is still open." : ""
    throw new Error(`${command} ${args.join(" ")}\n${stdout ?? ""}\n${stderr ?? String(error)}${end}`)
  }
}

const run = (cwd: string, command: string, ...args: ReadonlyArray<string>) => execute(cwd, 0, command, args)

/** A program that is done is gone: a socket or a timer that holds it is a bug. */
const runProgram = (cwd: string, file: string, ...args: ReadonlyArray<string>) =>
  execute(cwd, 60_000, process.execPath, [file, ...args])

/** As much of an Ollama server as one streamed answer needs. */
const fakeOllama = createServer((request, response) => {
  const send = (...lines: ReadonlyArray<unknown>) => {
    response.setHeader("content-type", lines.length === 1 ? "application/json" : "application/x-ndjson")
    response.end(lines.map((line) => `${JSON.stringify(line)}\n`).join(""))
  }
  const line = (content: string, end: object = { done: false }) => ({
    model: "tiny:latest",
    created_at: "2026-01-01T00:00:00Z",
    message: { role: "assistant", content },
    ...end
  })
  request.resume()
  request.on("end", () => {
    const details = { format: "gguf", family: "llama", parameter_size: "2M", quantization_level: "Q8_0" }
    switch (request.url) {
      case "/api/version":
        return send({ version: "0.12.0" })
      case "/api/ps":
        return send({ models: [] })
      case "/api/tags":
        return send({ models: [{ name: "tiny:latest", model: "tiny:latest", size: 1, digest: "0", details }] })
      case "/api/chat":
        return send(line("It is "), line("Paris."), line("", { done: true, done_reason: "stop", eval_count: 2 }))
      default:
        response.statusCode = 404
        return send({ error: "not found" })
    }
  })
})

const effectProgram = `
import * as Effect from "effect/Effect"
import { Chat, Cortex } from "aicortex"

const program = Chat.text("The capital of France?", { model: "tiny:latest" }).pipe(
  Effect.provide(Cortex.layer({ servers: [process.argv[2] ?? ""] }))
)
const answer = await Effect.runPromise(program)
console.log(answer.trim())
`

const promiseProgram = `
import { chat, createCortex } from "aicortex/promise"

const cortex = createCortex({ servers: [process.argv[2] ?? ""] })
const answer = await cortex.chat("The capital of France?", { model: "tiny:latest" })
console.log(typeof chat, String(answer))
await cortex.close()
`

const backgroundProgram = `
import { chat } from "aicortex/promise"

const [server = "", stateFile = ""] = process.argv.slice(2)
Object.assign(process.env, { AICORTEX_SERVERS: server, AICORTEX_STATE: stateFile, AICORTEX_PROBE_INTERVAL: "1" })
console.log(await chat("The capital of France?", { model: "tiny:latest" }))
`

describe.concurrent("the published package", { timeout: 120_000 }, () => {
  let directory: string
  let tarball: string
  let files: ReadonlyArray<string>
  let server: string

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "aicortex-package-"))
    await run(root, process.execPath, "scripts/setup.mjs", "--all")
    const [packed] = JSON.parse(
      await run(root, "npm", "pack", "--json", "--ignore-scripts", "--pack-destination", directory)
    )
    tarball = join(directory, packed.filename)
    files = packed.files.map((file: { readonly path: string }) => file.path)
    await writeFile(
      join(directory, "package.json"),
      JSON.stringify({ name: "consumer", type: "module", private: true })
    )
    const peers = await Promise.all(
      ["effect", "@effect/platform", "@effect/platform-node"].map(
        async (name) => `${name}@${(await json(join(root, "node_modules", name, "package.json"))).version}`
      )
    )
    const quiet = ["--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    await run(directory, "npm", "install", ...quiet, tarball, ...peers)
    await new Promise<void>((resolve) => fakeOllama.listen(0, "127.0.0.1", resolve))
    server = `http://127.0.0.1:${(fakeOllama.address() as AddressInfo).port}`
  }, 240_000)

  afterAll(async () => {
    fakeOllama.closeAllConnections()
    fakeOllama.close()
    await rm(directory, { recursive: true, force: true })
  })

  it("says its version in one voice", async () => {
    assert.strictEqual(version, (await json(join(root, "package.json"))).version)
    assert.strictEqual(version, (await json(join(root, "package-lock.json"))).version)
  })

  it("ships what it needs and nothing else", () => {
    const allowed =
      /^(dist|src|registry|docs|examples)\/|^(package\.json|config\.schema\.json|README\.md|CHANGELOG\.md|LICENSE)$/
    const refused = /^dist\/\.|^dist\/cli\/|^src\/cli\/|^registry\/demo\/training\//
    assert.deepStrictEqual(
      files.filter((file) => !allowed.test(file) || refused.test(file)),
      []
    )
    for (const file of ["dist/index.js", "dist/index.d.ts", "dist/promise.js", "dist/promise.d.ts", "dist/bin.js"]) {
      assert.include(files, file)
    }
    for (const file of [
      "LICENSE",
      "dist/THIRD-PARTY-NOTICES",
      "README.md",
      "docs/errors.md",
      "registry/demo/aicortex-demo.gguf"
    ])
      assert.include(files, file)
  })

  it("is clean for publint", async () => {
    assert.include(await run(root, tool("publint"), "run", "--strict", tarball), "All good!")
  })

  it("has types that resolve", async () => {
    await run(root, tool("attw"), "--profile", "esm-only", tarball)
  })

  it("has each public module under its name, and no other one", async () => {
    const modules = (await readdir(join(root, "src"), { withFileTypes: true })).flatMap((entry) =>
      entry.isFile() && entry.name !== "index.ts" ? [entry.name.replace(/\.ts$/, "")] : []
    )
    const folders = (await readdir(join(root, "src"), { withFileTypes: true })).filter((entry) => entry.isDirectory())
    const internal = [
      "bin",
      "index",
      ...(await Promise.all(
        folders.map(async ({ name }) => {
          const file = (await readdir(join(root, "src", name))).find((entry) => entry.endsWith(".ts"))
          return `${name}/${file?.replace(/\.ts$/, "") ?? "some"}`
        })
      ))
    ]
    await writeFile(
      join(directory, "modules.mjs"),
      `for (const name of ${JSON.stringify(modules)}) {
         if (Object.keys(await import("aicortex/" + name)).length === 0) throw new Error(name + " exports nothing")
       }
       for (const name of ${JSON.stringify(internal)}) {
         const code = await import("aicortex/" + name).then(() => "none", (error) => error.code)
         if (code !== "ERR_PACKAGE_PATH_NOT_EXPORTED") throw new Error(name + ": " + code)
       }
       console.log("done")`
    )
    assert.strictEqual(await runProgram(directory, "modules.mjs"), "done")
  })

  it("answers under Effect", async () => {
    await writeFile(join(directory, "effect.mjs"), effectProgram)
    assert.strictEqual(await runProgram(directory, "effect.mjs", server), "It is Paris.")
  })

  it("answers with a Promise", async () => {
    await writeFile(join(directory, "promise.mjs"), promiseProgram)
    assert.strictEqual(await runProgram(directory, "promise.mjs", server), "function It is Paris.")
  })

  it("ends by itself where nobody closes anything, and has kept what it learned", async () => {
    await writeFile(join(directory, "background.mjs"), backgroundProgram)
    const stateFile = join(directory, "fleet.json")
    assert.strictEqual(await runProgram(directory, "background.mjs", server, stateFile), "It is Paris.")
    assert.include(await readFile(stateFile, "utf8"), server)
  })

  it("brings its command", async () => {
    assert.isTrue(existsSync(join(directory, "node_modules/.bin/aicortex")))
    assert.strictEqual(await run(directory, join(directory, "node_modules/.bin/aicortex"), "--version"), version)
  })

  it("type-checks in a strict project", async () => {
    await writeFile(join(directory, "effect.ts"), effectProgram)
    await writeFile(join(directory, "promise.ts"), promiseProgram)
    await writeFile(join(directory, "background.ts"), backgroundProgram)
    const compilerOptions = {
      target: "ES2022",
      // The types of @effect/platform name the browser's Storage.
      lib: ["ES2022"],
      module: "NodeNext",
      moduleResolution: "NodeNext",
      strict: true,
      exactOptionalPropertyTypes: true,
      noEmit: true,
      skipLibCheck: false,
      typeRoots: [join(root, "node_modules/@types")],
      types: ["node"]
    }
    await writeFile(join(directory, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.ts"] }))
    await run(directory, process.execPath, join(root, "node_modules/typescript/bin/tsc"), "-p", ".")
  })
})

describe("the lock file", () => {
  it("names no host, and every package for every platform", async () => {
    const { packages } = await json(join(root, "package-lock.json"))
    const entries: ReadonlyArray<[string, Record<string, Record<string, string> | string>]> = Object.entries(packages)
    const known = new Set(entries.map(([path]) => path.slice(path.lastIndexOf("node_modules/") + 13)))
    for (const [path, entry] of entries) {
      assert.notMatch(String(entry["resolved"] ?? ""), /^\w+:\/\//, path)
      for (const name of Object.keys(entry["optionalDependencies"] ?? {})) assert.include([...known], name, path)
    }
  })
})
