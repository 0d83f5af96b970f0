import { existsSync } from "node:fs"
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import ts from "typescript"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { version } from "../../src/internal/version.js"
import { answering, installQuietly, json, pack, root, run, runProgram, tool } from "../support/package.js"

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

/**
 * A program that exports each export of some entries, and each member of their types, without saying of what type it is:
 * the compiler has to name it where declarations are written.
 */
const exportingProgram = (directory: string, entries: ReadonlyArray<string>, options: ts.CompilerOptions): string => {
  const imports = entries.map((entry, at) => `import * as m${at} from "${entry}"\n`).join("")
  const file = join(directory, "entries.ts")
  const host = ts.createCompilerHost(options)
  const { fileExists, getSourceFile } = host
  host.fileExists = (name) => name === file || fileExists(name)
  host.getSourceFile = (name, ...rest) =>
    name === file ? ts.createSourceFile(name, imports, ts.ScriptTarget.ES2022) : getSourceFile(name, ...rest)
  const program = ts.createProgram([file], options, host)
  const checker = program.getTypeChecker()
  const lines: Array<string> = []
  for (const [at, statement] of program.getSourceFile(file)?.statements.entries() ?? []) {
    const module = checker.getSymbolAtLocation((statement as ts.ImportDeclaration).moduleSpecifier)
    assert.isDefined(module, entries[at])
    for (const exported of checker.getExportsOfModule(module as ts.Symbol)) {
      const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported
      const name = `m${at}.${exported.name}`
      const [specifier] = exported.declarations ?? []
      const typeOnly =
        specifier !== undefined && ts.isExportSpecifier(specifier) && ts.isTypeOnlyExportDeclaration(specifier)
      if (symbol.flags & ts.SymbolFlags.Value && !typeOnly) lines.push(`export const v${lines.length} = ${name}`)
      const type = checker.getDeclaredTypeOfSymbol(symbol)
      const parameters = (symbol.declarations ?? []).flatMap((one) =>
        ts.isInterfaceDeclaration(one) || ts.isTypeAliasDeclaration(one) || ts.isClassDeclaration(one)
          ? (one.typeParameters ?? [])
          : []
      )
      if (!(symbol.flags & ts.SymbolFlags.Type) || parameters.length > 0) continue
      for (const member of type.isUnion() || type.getFlags() & ts.TypeFlags.Object ? type.getProperties() : []) {
        const [declared] = member.declarations ?? []
        const modifiers = declared === undefined ? 0 : ts.getCombinedModifierFlags(declared)
        if (!/^[a-z]\w*$/i.test(member.name) || modifiers & ts.ModifierFlags.NonPublicAccessibilityModifier) continue
        lines.push(`export const p${lines.length} = (of: ${name}) => of.${member.name}`)
      }
    }
  }
  return `${imports}${lines.join("\n")}\n`
}

describe.concurrent("the published package", { timeout: 300_000 }, () => {
  let directory: string
  let tarball: string
  let files: ReadonlyArray<string>
  let server: string
  let ollama: Awaited<ReturnType<typeof answering>>

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "aicortex-package-"))
    const packed = await pack(directory)
    tarball = packed.tarball
    files = packed.files
    await writeFile(
      join(directory, "package.json"),
      JSON.stringify({ name: "consumer", type: "module", private: true })
    )
    const peers = await Promise.all(
      ["effect", "@effect/platform", "@effect/platform-node"].map(
        async (name) => `${name}@${(await json(join(root, "node_modules", name, "package.json"))).version}`
      )
    )
    await installQuietly(directory, tarball, ...peers)
    ollama = await answering()
    server = ollama.url
  }, 240_000)

  afterAll(async () => {
    ollama.close()
    await rm(directory, { recursive: true, force: true })
  })

  it("has the same version everywhere", async () => {
    assert.strictEqual(version, (await json(join(root, "package.json"))).version)
    assert.strictEqual(version, (await json(join(root, "package-lock.json"))).version)
  })

  it("contains what it needs and nothing else", () => {
    const allowed =
      /^(dist|src|registry|docs|examples)\/|^(package\.json|(config|servers)\.schema\.json|README\.md|CHANGELOG\.md|LICENSE)$/
    const refused = /^dist\/\.|^dist\/cli\/|^dist\/promise|^src\/cli\/|^src\/dashboard\/|^registry\/demo\/training\//
    assert.deepStrictEqual(
      files.filter((file) => !allowed.test(file) || refused.test(file)),
      []
    )
    for (const file of [
      "dist/index.js",
      "dist/index.d.ts",
      "dist/bundle/promise.js",
      "dist/bundle/promise.d.ts",
      "dist/bin.js",
      "dist/dashboard/index.html"
    ]) {
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

  it("passes publint", async () => {
    assert.include(await run(root, tool("publint"), "run", "--strict", tarball), "All good!")
  })

  it("has resolvable types", async () => {
    await run(root, tool("attw"), "--profile", "esm-only", tarball)
  })

  it("exports each public module under its name, and no other", async () => {
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

  it("works with Effect", async () => {
    await writeFile(join(directory, "effect.mjs"), effectProgram)
    assert.strictEqual(await runProgram(directory, "effect.mjs", server), "It is Paris.")
  })

  it("works with Promises", async () => {
    await writeFile(join(directory, "promise.mjs"), promiseProgram)
    assert.strictEqual(await runProgram(directory, "promise.mjs", server), "function It is Paris.")
  })

  it.each([
    ["promises", promiseProgram, "function It is Paris.", []],
    [
      "Effect",
      effectProgram,
      "It is Paris.",
      [
        "--main-fields=module,main",
        "--banner:js=import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);"
      ]
    ]
  ])(
    "a program that esbuild made one file of runs where no package is installed: %s",
    async (name, text, said, more) => {
      const elsewhere = await mkdtemp(join(tmpdir(), "aicortex-bundled-"))
      try {
        const source = join(directory, `bundled-${name}.mjs`)
        await writeFile(source, text)
        const flags = ["--bundle", "--platform=node", "--format=esm", "--external:node-llama-cpp", "--external:libsql"]
        await run(directory, tool("esbuild"), source, ...flags, ...more, `--outfile=${join(elsewhere, "program.mjs")}`)
        assert.strictEqual(await runProgram(elsewhere, "program.mjs", server), said)
      } finally {
        await rm(elsewhere, { recursive: true, force: true })
      }
    }
  )

  it("a program ends by itself without a close, and its state is saved", async () => {
    await writeFile(join(directory, "background.mjs"), backgroundProgram)
    const stateFile = join(directory, "fleet.json")
    assert.strictEqual(await runProgram(directory, "background.mjs", server, stateFile), "It is Paris.")
    assert.include(await readFile(stateFile, "utf8"), server)
  })

  it("contains its command", async () => {
    assert.isTrue(existsSync(join(directory, "node_modules/.bin/aicortex")))
    assert.strictEqual(await run(directory, join(directory, "node_modules/.bin/aicortex"), "--version"), version)
  })

  it("type-checks in a strict project, which can name all that it exports again", async () => {
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
      noUncheckedIndexedAccess: true,
      verbatimModuleSyntax: true,
      // Packages whose own types are published have it.
      declaration: true,
      noEmit: true,
      skipLibCheck: false,
      typeRoots: [join(root, "node_modules/@types")],
      types: ["node"]
    }
    const { options } = ts.convertCompilerOptionsFromJson(compilerOptions, directory)
    const modules = (await readdir(join(root, "src"))).flatMap((name) =>
      /^[A-Z]\w*\.ts$/.test(name) ? [`aicortex/${name.replace(/\.ts$/, "")}`] : []
    )
    const entries = ["aicortex/promise", "aicortex/browser", ...modules]
    await writeFile(join(directory, "entries.ts"), exportingProgram(directory, entries, options))
    await writeFile(join(directory, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.ts"] }))
    await run(directory, process.execPath, join(root, "node_modules/typescript/bin/tsc"), "-p", ".")
  })
})

describe("the lock file", () => {
  it("contains no host, and every package for every platform", async () => {
    const { packages } = await json(join(root, "package-lock.json"))
    const entries: ReadonlyArray<[string, Record<string, Record<string, string> | string>]> = Object.entries(packages)
    const known = new Set(entries.map(([path]) => path.slice(path.lastIndexOf("node_modules/") + 13)))
    for (const [path, entry] of entries) {
      assert.notMatch(String(entry["resolved"] ?? ""), /^\w+:\/\//, path)
      for (const name of Object.keys(entry["optionalDependencies"] ?? {})) assert.include([...known], name, path)
    }
  })
})
