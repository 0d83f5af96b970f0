/** What short commands load before they do anything: most of their time. Counted in packages and bytes, which do not vary. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import { basename, join } from "node:path"
import { fileURLToPath } from "node:url"
import { beforeAll, describe, expect, it } from "vitest"
import { build } from "../support/cliProcess.js"
import { startFakeOllama } from "../support/fakeServer.js"
import { useKeep } from "../support/keep.js"

beforeAll(build, 120_000)

const keep = useKeep()
const root = fileURLToPath(new URL("../..", import.meta.url))

interface Coverage {
  readonly result: ReadonlyArray<{ readonly url: string }>
}
interface Metafile {
  readonly outputs: {
    readonly [path: string]: { readonly inputs: { readonly [path: string]: { readonly bytesInOutput: number } } }
  }
}

/** The package that a file belongs to; `undefined`: this one. */
const packageOf = (path: string): string | undefined => /.*node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]

/** What a command loads: packages, and the bytes of all files. Node lists the scripts that a process has run. */
const loadedBy = async (...args: ReadonlyArray<string>) => {
  const server = keep(await startFakeOllama({ models: ["a:1b"], reply: "Here I am." }))
  const home = mkdtempSync(join(tmpdir(), "aicortex-loaded-"))
  keep({ [Symbol.asyncDispose]: async () => rmSync(home, { recursive: true, force: true }) })
  const scripts = join(home, "scripts")
  const child = spawn(process.execPath, [join(root, "dist/bin.js"), ...args], {
    env: { PATH: process.env["PATH"], HOME: home, AICORTEX_SERVERS: server.url, NODE_V8_COVERAGE: scripts },
    stdio: ["ignore", "pipe", "pipe"]
  })
  let output = ""
  child.stdout.on("data", (text: Buffer) => (output += text))
  child.stderr.on("data", (text: Buffer) => (output += text))
  const [code] = await once(child, "close")
  expect([code, output]).toEqual([0, expect.stringMatching(/\S/)])
  const urls = readdirSync(scripts).flatMap((file) =>
    (JSON.parse(readFileSync(join(scripts, file), "utf8")) as Coverage).result.map(({ url }) => url)
  )
  const files = [...new Set(urls)].filter((url) => url.startsWith("file:")).map((url) => fileURLToPath(url))
  const { outputs } = JSON.parse(readFileSync(join(root, "dist/.bin.json"), "utf8")) as Metafile
  const parts = new Map(Object.entries(outputs).map(([path, { inputs }]) => [basename(path), inputs]))
  const packages = new Set<string>()
  let bytes = 0
  for (const file of files) {
    bytes += statSync(file).size
    const inputs = file.startsWith(join(root, "dist/bin/"))
      ? parts.get(basename(file))
      : { [file]: { bytesInOutput: 1 } }
    expect(inputs, `what ${file} was made of`).toBeDefined()
    for (const [path, { bytesInOutput }] of Object.entries(inputs ?? {})) {
      const name = packageOf(path)
      if (name !== undefined && bytesInOutput > 0) packages.add(name)
    }
  }
  return { packages: [...packages].sort(), bytes, files, output }
}

/** What reads a command line. */
const always = [
  "@effect/cli",
  "@effect/platform",
  "@effect/platform-node",
  "@effect/platform-node-shared",
  "@effect/printer",
  "@effect/printer-ansi",
  "@effect/typeclass",
  "effect",
  "fastest-levenshtein",
  "jsonc-parser"
]
const requests = ["lru-cache", "undici"]
const tables = ["ansi-regex", "get-east-asian-width", "string-width", "strip-ansi"]
const sqlite = ["@effect/experimental", "@effect/sql", "@effect/sql-libsql", "@neon-rs/load", "detect-libc", "libsql"]

/** A command, the packages it may load, and how many bytes: a little above what it needs. */
const commands: ReadonlyArray<readonly [ReadonlyArray<string>, ReadonlyArray<string>, number]> = [
  [["servers"], [...requests, ...tables], 1_880_000],
  [["models"], [...requests, ...tables], 1_880_000],
  [["sessions"], [...requests, ...tables, ...sqlite], 1_930_000],
  [["chat", "Hi"], requests, 2_290_000]
]

describe("a command loads no more than it needs", () => {
  it.each(commands.map(([args, ...rest]) => [args.join(" "), args, ...rest] as const))(
    "aicortex %s",
    async (_, args, needed, most) => {
      const { bytes, packages } = await loadedBy(...args)
      // What is not used any more is to be taken from the list.
      expect(packages).toEqual([...always, ...needed].sort())
      expect(bytes).toBeLessThan(most)
      expect(bytes).toBeGreaterThan(0.9 * most)
    }
  )

  it.each(["--version", "--help", "help", "chat --help", "help servers add", "registry resolve -h", "run --help"])(
    "aicortex %s: no package, and no more than the pages of help",
    async (words) => {
      const { bytes, files, packages } = await loadedBy(...words.split(" "))
      expect(packages).toEqual([])
      expect(files.length).toBeLessThan(words === "--version" ? 5 : 10)
      expect(bytes).toBeLessThan(words === "--version" ? 6_000 : 90_000)
    }
  )

  it.each(["chat", "servers add", "registry resolve"])("help of %s is what its declaration says", async (command) => {
    const path = command.split(" ")
    const quick = await loadedBy(...path, "--help")
    // The same words in another order are read by the command line.
    const declared = await loadedBy("--help", ...path)
    expect(declared.packages).toContain("@effect/cli")
    expect(quick.output).toBe(declared.output)
  })
})
