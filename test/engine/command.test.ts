import type { ChildProcess } from "node:child_process"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { setTimeout } from "node:timers/promises"
import { afterEach, beforeAll, describe, expect, it } from "vitest"
import { defaultModelPath } from "../../src/backend/embedded.js"
import { bin, build, ended, makeHome } from "../support/cliProcess.js"

const timeout = 60_000

beforeAll(build, 120_000)

const running: Array<ChildProcess> = []
afterEach(() => {
  for (const child of running.splice(0)) child.kill("SIGKILL")
})

interface Started {
  readonly child: ChildProcess
  readonly url: string
  readonly model: string
}

const start = async (args: ReadonlyArray<string>, env: NodeJS.ProcessEnv = {}): Promise<Started> => {
  const child = spawn(process.execPath, [bin, "engine", "--port", "0", "--threads", "1", ...args], {
    stdio: ["pipe", "pipe", "inherit"],
    env: { ...process.env, ...env }
  })
  running.push(child)
  const [line] = await once(createInterface({ input: child.stdout }), "line")
  return { child, ...JSON.parse(String(line)) }
}

interface State {
  readonly status: number
  readonly body: unknown
}

/** Every state that `/health` had until it was ready. */
const untilReady = async (url: string): Promise<ReadonlyArray<State>> => {
  const seen: Array<State> = []
  for (;;) {
    const response = await fetch(`${url}/health`)
    seen.push({ status: response.status, body: await response.json() })
    if (response.status === 200) return seen
    await setTimeout(20)
  }
}

interface Reply {
  readonly choices?: ReadonlyArray<{ readonly message: { readonly content: string } }>
  readonly error?: { readonly message: string }
}

const chat = async (url: string, body: object) => {
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ temperature: 0, ...body })
  })
  return { status: response.status, body: (await response.json()) as Reply }
}

const capital = { messages: [{ role: "user", content: "What is the capital of France?" }] }

describe("aicortex engine", () => {
  it(
    "tells its address, is unhealthy while it loads, and then answers under the name of the file",
    async () => {
      // It loads in a moment: on a busy machine that may be over before it is asked.
      const early = async () => {
        const { model, url } = await start([defaultModelPath()])
        expect(model).toBe("aicortex-demo")
        expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/)
        const reply = chat(url, capital)
        return { url, reply, states: await untilReady(url) }
      }
      let found = await early()
      for (let more = 20; found.states[0]?.status === 200 && more > 0; more--) {
        await found.reply
        found = await early()
      }
      const { reply, states, url } = found
      expect(states[0]).toMatchObject({
        status: 503,
        body: { status: "starting", reason: expect.stringContaining("loaded") }
      })
      // A request that comes too early waits.
      expect((await reply).body.choices?.[0]?.message.content).toBe("The capital of France is Paris.")
      const list = await fetch(`${url}/v1/models`).then((response) => response.json())
      expect(list).toMatchObject({ object: "list", data: [{ id: "aicortex-demo", object: "model" }] })
      expect((await chat(url, { ...capital, model: "other" })).status).toBe(404)
    },
    timeout
  )

  it(
    "takes a name, a port and a context",
    async () => {
      const first = await start([defaultModelPath(), "--name", "my/model:1", "--ctx", "256"])
      expect(first.model).toBe("my/model:1")
      await untilReady(first.url)
      const info = await fetch(`${first.url}/v1/models/my/model:1`).then((response) => response.json())
      expect(info).toMatchObject({ id: "my/model:1", context_length: 256 })
      const { body, status } = await chat(first.url, {
        model: "my/model:1",
        messages: [{ role: "user", content: "word ".repeat(300) }]
      })
      expect(status).toBe(400)
      expect(body.error?.message).toContain("context holds 256")
      const port = new URL(first.url).port
      const { code, err } = await ended(spawn(process.execPath, [bin, "engine", defaultModelPath(), "--port", port]))
      expect(code).toBe(1)
      expect(err).toContain(port)
    },
    timeout
  )

  it.each(["end of input", "SIGTERM"])(
    "ends by itself on %s",
    async (how) => {
      const { child, url } = await start([defaultModelPath(), "--stdin-guard"])
      await untilReady(url)
      const exit = once(child, "exit")
      if (how === "SIGTERM") child.kill("SIGTERM")
      else child.stdin?.end()
      expect((await exit)[1]).toBeNull()
      await expect(fetch(`${url}/health`)).rejects.toThrow()
    },
    timeout
  )

  it(
    "loads its library from the one file that was made of the version that is installed",
    async () => {
      const folder = mkdtempSync(join(tmpdir(), "aicortex-loaded-"))
      try {
        const { child, url } = await start([defaultModelPath()], { NODE_V8_COVERAGE: folder })
        await untilReady(url)
        const closed = once(child, "close")
        child.kill("SIGTERM")
        await closed
        const loaded = readdirSync(folder).map((name) => readFileSync(join(folder, name), "utf8"))
        const manifest = join(createRequire(import.meta.url).resolve("node-llama-cpp"), "../../package.json")
        const { version } = JSON.parse(readFileSync(manifest, "utf8"))
        expect(loaded.join()).toContain(`/bin/node-llama-cpp-${version}.js?at=`)
        expect(loaded.join()).not.toContain("/node_modules/node-llama-cpp/dist/")
      } finally {
        rmSync(folder, { recursive: true, force: true })
      }
    },
    timeout
  )

  it(
    "without the guard it does not read its input",
    async () => {
      const { child, url } = await start([defaultModelPath()])
      child.stdin?.end()
      await untilReady(url)
      expect((await chat(url, capital)).status).toBe(200)
      expect(child.exitCode).toBeNull()
    },
    timeout
  )

  it(
    "says in one line what is wrong with a file, and ends",
    async () => {
      await using home = makeHome()
      const files = [
        [home.write("notes.txt", "These are notes."), "is not a model: it is no GGUF file"],
        [home.write("begun.gguf", "GGUF"), "is not a model: it is cut off"],
        [home.write("cut.gguf", readFileSync(defaultModelPath()).subarray(0, 50_000)), "cannot be loaded"],
        [home.write("empty.gguf", ""), "is not a model: it is no GGUF file"],
        [`${home.path}/missing.gguf`, "there is no file"],
        [home.path, "cannot be read"]
      ] as const
      for (const [file, words] of files) {
        const { code, err } = await home.run(["engine", file])
        expect([code, err]).toEqual([1, expect.stringContaining(words)])
        expect(err.trim().split("\n")).toHaveLength(1)
        expect(err).toContain(file)
      }
    },
    timeout
  )

  it.each([
    [["--parallel", "0"], "--parallel must be a whole number from 1 to 256"],
    [["--ctx", "many"], "--ctx must be a "],
    [["--ngl", "-2"], "--ngl must be"],
    [["--host", "0.0.0.0"], "one as AICORTEX_ENGINE_KEY"]
  ])("refuses %j before it reads the file", async (flags, words) => {
    await using home = makeHome()
    const { code, err, out } = await home.run(["engine", "/nowhere.gguf", ...flags])
    expect([code, out]).toEqual([2, ""])
    expect(err).toContain(words)
  })
})
