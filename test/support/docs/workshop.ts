/** Where the examples of the documentation run: a folder of their own, fakes behind the names of servers, and a gateway. */
import { spawn, spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { pathToFileURL } from "node:url"
import { build } from "esbuild"
import { fromSource } from "../../../scripts/fromSource.mjs"
import { FakeHub } from "../fakeHub.js"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../fakeServer.js"
import { startGateway } from "../gateway.js"
import type { Reply } from "../script.js"
import { type Block, root } from "./pages.js"

/** The model calls the first tool that it has; in all other ways it is the fake's default. */
const reply: Reply = (body) => {
  const last = body.messages?.at(-1)
  if (last?.role === "tool") return `The tool says ${last.content}.`
  if (body.tools?.length > 0 && !JSON.stringify(body.tools).includes("not_called")) {
    return { tokens: "", toolCalls: [{ name: body.tools[0].function.name, arguments: { city: "Paris" } }] }
  }
  // Only who is told the name knows it.
  const name = /My name is (\w+)/.exec(JSON.stringify(body.messages ?? ""))?.[1]
  if (name !== undefined && last.content === "What is my name?") return `Your name is ${name}.`
  return "The sky looks blue because air scatters short wavelengths the most."
}

const demo = join(root, "registry/demo/aicortex-demo.gguf")

/** A hub with the models that the pages name: each is the demo model. */
const openHub = async (): Promise<FakeHub> => {
  const hub = await FakeHub.start()
  const bytes = readFileSync(demo)
  for (const quantization of ["Q4_K_M", "Q8_0"]) {
    hub.add("bartowski/Llama-3.2-1B-Instruct-GGUF", `Llama-3.2-1B-Instruct-${quantization}.gguf`, bytes)
  }
  hub.add("cortexso/llama3.1", "model.gguf", bytes, "8b-gguf-q4-km")
  hub.files["tiny.gguf"] = { bytes }
  return hub
}

export interface Output {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Where the blocks of one page run; `served` are the ports behind addresses that only this page uses. */
export interface Desk {
  readonly home: string
  readonly work: string
  readonly served: Record<string, number>
}

export interface Workshop {
  readonly servers: Readonly<Record<string, FakeServer>>
  /** A home and a working directory of its own. */
  readonly desk: () => Desk
  readonly run: (desk: Desk, command: string, args: ReadonlyArray<string>, env?: NodeJS.ProcessEnv) => Promise<Output>
  /** Starts `aicortex serve …` or `aicortex engine …`, and gives the port on which it listens. */
  readonly serve: (
    desk: Desk,
    command: string
  ) => Promise<{ readonly port: number; readonly stop: () => Promise<void> }>
  /**
   * Runs `aicortex run -d …` at a free port, which is then behind port 39281 of this machine for what the desk runs; gives
   * what it prints. What holds the models ends with `stop`.
   */
  readonly hold: (desk: Desk, command: string) => Promise<Output & { readonly stop: () => Promise<void> }>
  /** Type-checks these files, strictly, in one program, and not what they import: `npm run types` checks that. */
  readonly typeCheck: (files: ReadonlyArray<string>) => Promise<Output>
  /** Bundles these files, and gives for each the program that it became. */
  readonly bundle: (files: ReadonlyArray<string>) => Promise<ReadonlyArray<string>>
  /** The file that a block is written to. */
  readonly fileOf: (block: Block) => string
  readonly close: () => Promise<void>
}

const standIns = ["curl", "claude", "codex", "opencode", "docker", "systemctl"]

export const openWorkshop = async (): Promise<Workshop> => {
  const folder = mkdtempSync(join(tmpdir(), "aicortex-docs-"))
  const path = join(folder, "path")
  mkdirSync(path)
  // Where Node and tsc look for packages.
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"))
  writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module" }))
  symlinkSync(join(root, "dist/bin.js"), join(path, "aicortex"))
  for (const name of standIns) symlinkSync(join(root, "test/support/docs/standIns.mjs"), join(path, name))
  symlinkSync(join(root, "test/support/fakeEngine.mjs"), join(path, "podman"))

  const setup = spawnSync(process.execPath, ["scripts/setup.mjs"], { cwd: root, encoding: "utf8" })
  if (setup.status !== 0) throw new Error(setup.stderr)

  const models = ["llama3.2:3b", { name: "nomic-embed-text:latest", capabilities: ["embedding"] }]
  const ollama = { models, reply, exposed: true }
  const servers = {
    "gpu-1:11434": await startFakeOllama(ollama),
    "gpu-2:11434": await startFakeOllama(ollama),
    "llm.example.com:443": await startFakeOpenAI({ models, reply, apiKey: "secret" })
  }
  const hub = await openHub()
  const hubPorts = [hub.url, hub.filesUrl].map((url) => Number(new URL(url).port))
  const gateway = await startGateway([servers["gpu-1:11434"].url])

  const environment = ({ home, served }: Desk, extra: NodeJS.ProcessEnv): NodeJS.ProcessEnv => ({
    PATH: `${path}:${process.env["PATH"]}`,
    HOME: home,
    NO_COLOR: "1",
    HF_ENDPOINT: hub.url,
    FAKE_ENGINE_LOG: join(home, "engines.jsonl"),
    NODE_OPTIONS: `--import=${pathToFileURL(join(root, "test/support/hosts.mjs")).href}`,
    TEST_HOSTS: JSON.stringify({
      ...Object.fromEntries(Object.entries(servers).map(([host, { port }]) => [host, port])),
      "127.0.0.1:8000": gateway.port,
      "127.0.0.1:62549": gateway.port,
      ...Object.fromEntries(hubPorts.map((port) => [`127.0.0.1:${port}`, port])),
      "example.com:443": hubPorts[1],
      ...served
    }),
    ...extra
  })

  const run: Workshop["run"] = (desk, command, args, env = {}) =>
    new Promise((resolve) => {
      const inClone = command === "sh" && args[1]?.startsWith("npm ")
      const child = spawn(command, args, {
        cwd: inClone ? root : desk.work,
        env: environment(desk, env),
        stdio: ["ignore", "pipe", "pipe"]
      })
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

  const serve: Workshop["serve"] = (desk, command) =>
    new Promise((resolve, reject) => {
      const words = command.replace(/(?=aicortex (serve|engine))/, "exec ").replace(/--port \d+/, "--port 0")
      const child = spawn("sh", ["-c", words], {
        cwd: desk.work,
        env: environment(desk, { PORT: "0" }),
        stdio: ["ignore", "pipe", "pipe"]
      })
      const closed = new Promise<void>((done) => child.on("close", () => done()))
      let said = ""
      const onData = (data: string) => {
        said += data
        const port = /(?:listening on |"url":")http:\/\/[^\s:]+:(\d+)/.exec(said)?.[1]
        if (port === undefined) return
        const stop = () => {
          child.kill()
          return closed
        }
        resolve({ port: Number(port), stop })
      }
      child.stdout.setEncoding("utf8").on("data", onData)
      child.stderr.setEncoding("utf8").on("data", onData)
      closed.then(() => reject(new Error(`${command} ended: ${said}`)))
    })

  const hold: Workshop["hold"] = async (desk, command) => {
    const words = command.replace(/#.*/, "").trimEnd()
    const output = await run(desk, "sh", ["-c", `${words}${/ --port /.test(words) ? "" : " --port 0"}`])
    const port = Number(/http:\/\/localhost:(\d+)\/v1/.exec(output.stdout)?.[1])
    for (const host of ["localhost", "127.0.0.1"]) desk.served[`${host}:39281`] = port
    // Other commands ask the engines themselves.
    const status = await run(desk, "aicortex", ["status", "--json"])
    for (const [, engine] of status.stdout.matchAll(/"http:\/\/127\.0\.0\.1:(\d+)/g)) {
      desk.served[`127.0.0.1:${engine}`] = Number(engine)
    }
    return {
      ...output,
      stdout: output.stdout.replace(`localhost:${port}`, "localhost:39281"),
      stop: async () => void (await run(desk, "aicortex", ["stop"]))
    }
  }

  let desks = 0
  const desk = (): Desk => {
    desks += 1
    const [home, work] = [join(folder, `home${desks}`), join(folder, `work${desks}`)]
    for (const one of [home, work]) mkdirSync(one)
    symlinkSync(join(root, "registry"), join(work, "registry"))
    symlinkSync(demo, join(work, "mine.gguf"))
    return { home, work, served: {} }
  }
  const outside: Desk = desk()

  return {
    servers,
    desk,
    run,
    serve,
    hold,
    typeCheck: (files) => {
      const config = {
        extends: join(root, "tsconfig.json"),
        compilerOptions: { incremental: false, typeRoots: [join(root, "node_modules/@types")] },
        // Without this, all files of the project.
        include: [],
        files
      }
      const file = join(folder, "tsconfig.json")
      writeFileSync(file, JSON.stringify(config))
      return run(outside, process.execPath, [join(root, "test/support/docs/typeCheck.mjs"), file])
    },
    bundle: async (files) => {
      const entries = files.map((file, index) => ({ in: file, out: `program${index}` }))
      await build({
        absWorkingDir: folder,
        entryPoints: entries,
        outdir: join(folder, "out"),
        bundle: true,
        splitting: true,
        format: "esm",
        platform: "node",
        target: "node20",
        logLevel: "silent",
        external: ["node-llama-cpp"],
        // As in the bundle of the package: its other build cannot be bundled.
        alias: { "jsonc-parser": join(root, "node_modules/jsonc-parser/lib/esm/main.js") },
        banner: {
          js: 'import { createRequire as createRequire_ } from "node:module"; const require = createRequire_(import.meta.url);'
        },
        plugins: [fromSource]
      })
      return entries.map(({ out }) => join(folder, "out", `${out}.js`))
    },
    fileOf: ({ line, page }) => {
      const file = join(folder, "blocks", `${page.replace(/\.md$/, "")}-${line}.ts`)
      mkdirSync(dirname(file), { recursive: true })
      return file
    },
    close: async () => {
      await gateway.close()
      await hub.stop()
      await Promise.all(Object.values(servers).map((server) => server.stop()))
      rmSync(folder, { recursive: true, force: true })
    }
  }
}
