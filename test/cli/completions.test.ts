import { spawnSync } from "node:child_process"
import { existsSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest"
import { Routing } from "../../src/ChatRequest.js"
import { bin, build, type Home, makeHome } from "../support/cliProcess.js"
import { commandHost } from "../support/commandHost.js"
import { useFleet } from "../support/fleet.js"
import { hasTerminals, startTerminal } from "../support/terminal.js"

// Each test runs several processes.
vi.setConfig({ testTimeout: 120_000 })

beforeAll(build, 120_000)
const host = commandHost()
afterAll(host.stop)

const fleet = useFleet()
const home = (config?: unknown): Home => fleet.keep(makeHome(config))
const has = (shell: string) => spawnSync(shell, ["-c", "true"]).status === 0

/** What is offered, without what it is. */
const firstWords = (out: string): ReadonlyArray<string> =>
  out
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.split("\t")[0] ?? "")

/** The completions of the last word. */
const offered = async ({ run }: Home, ...words: ReadonlyArray<string>): Promise<ReadonlyArray<string>> => {
  const { code, err, out } = await run(["__complete", ...words])
  expect({ code, err }).toEqual({ code: 0, err: "" })
  return firstWords(out)
}
/** The same without a process for each, where no server is asked. */
const known = async (at: Home, ...words: ReadonlyArray<string>): Promise<ReadonlyArray<string>> => {
  const { code, stderr, stdout } = await host.run(["__complete", ...words], at.environment())
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
  return firstWords(stdout)
}

describe("candidates", () => {
  it("contain commands, flags, and the values of a choice", async () => {
    const at = home({ servers: [] })
    expect(await offered(at, "")).toEqual(expect.arrayContaining(["chat", "ls", "pull", "servers", "completions"]))
    expect(await known(at, "ser")).toEqual(["service", "servers", "serve"])
    expect(await known(at, "servers", "re")).toEqual(["remove"])
    expect(await known(at, "chat", "--rou")).toEqual(["--routing"])
    expect(await known(at, "chat", "--routing", "")).toEqual([...Routing.literals])
    expect(await known(at, "best", "--strategy=n")).toEqual(["--strategy=nearest"])
    // A flag that is given is not given again, and the value of one is not a command.
    expect(await known(at, "chat", "--routing", "warm", "--rou")).toEqual([])
    expect(await known(at, "completions", "")).toEqual(["bash", "zsh", "fish"])
    expect(await known(at, "chat", "--schema", "")).toEqual([":files"])
    expect(await known(at, "config", "get", "gateway.po")).toEqual(["gateway.port"])
    expect(await known(at, "chat", "--", "--rou")).toEqual([])
  })

  it("contain no command or flag that the command line refuses", async () => {
    const at = home({ servers: [] })
    const commands = (await known(at, "")).filter((word) => !word.startsWith("-"))
    expect(commands.length).toBeGreaterThan(12)
    for (const command of commands) {
      const flags = await known(at, command, "--")
      expect(flags, command).toContain("--help")
      const { out } = await at.run([command, "--help"])
      for (const flag of flags) expect(out, command).toContain(flag)
    }
  })

  it("contain models of both protocols, names of the user's, servers and conversations", async () => {
    const [one, api] = [
      await fleet.ollama({ models: ["llama3.2:3b"] }),
      await fleet.openai({ models: ["gpt-4o-mini"] })
    ]
    const at = home({ servers: [one.url, api.url], aliases: { best: ["llama3.2:3b"] } })
    expect(await offered(at, "chat", "-m", "")).toEqual(
      expect.arrayContaining(["llama3.2:3b", "gpt-4o-mini", "best", "auto", "aicortex-demo"])
    )
    expect(await offered(at, "show", "lla")).toEqual(["llama3.2:3b"])
    expect(await offered(at, "chat", "--model=g")).toEqual(["--model=gpt-4o-mini"])
    expect(await offered(at, "pull", "x:1b", "--server", "")).toEqual([one.url, api.url])
    expect(await offered(at, "servers", "remove", "http")).toEqual([one.url, api.url])
    expect(await offered(at, "servers", "add", "")).toEqual([])
    const { out } = await at.run(["sessions", "create"])
    expect(await offered(at, "chat", "--session", "")).toEqual([out.trim()])
    expect(await offered(at, "sessions", "show", "")).toEqual([out.trim()])
  })

  it("contain a silent server's last known models, without waiting for it", async () => {
    const [quick, slow] = [await fleet.ollama({ models: ["quick:1b"] }), await fleet.ollama({ models: ["slow:1b"] })]
    const at = home({ servers: [quick.url, slow.url] })
    expect(await offered(at, "rm", "")).toEqual(expect.arrayContaining(["quick:1b", "slow:1b"]))
    // Asked a moment ago: no server is asked again.
    slow.clear()
    expect(await offered(at, "rm", "s")).toEqual(["slow:1b"])
    expect(slow.requests).toEqual([])
    const kept = join(at.path, ".cache", "aicortex", "completions.json")
    writeFileSync(kept, JSON.stringify({ askedAt: 1, servers: [quick.url, slow.url], models: [["kept:1b", slow.url]] }))
    for (const server of [quick, slow]) {
      await server.setBehaviour({ faultOn: "all", faults: () => ({ kind: "hang" }) })
    }
    expect(await offered(at, "rm", "k")).toEqual(["kept:1b"])
    for (const request of slow.requests) {
      await expect.poll(() => request.closedAt).toBeDefined()
      expect((request.closedAt ?? 0) - request.at).toBeLessThan(4_000)
    }
    // The list of other servers says nothing of these.
    writeFileSync(kept, JSON.stringify({ askedAt: Date.now(), servers: ["http://other"], models: [["other:1b", ""]] }))
    expect(await offered(at, "rm", "o")).toEqual([])
    rmSync(kept)
    expect(await offered(at, "rm", "k")).toEqual([])
  })

  it("are empty, without an error, if settings cannot be read", async () => {
    const at = home({ servers: 1 })
    expect(await offered(at, "rm", "")).toEqual([])
    expect(await offered(at, "ser")).toEqual(["service", "servers", "serve"])
  })
})

describe("scripts", () => {
  it("are printed for the installed shells", async () => {
    const at = home()
    for (const shell of ["bash", "zsh", "fish"]) {
      const { code, out } = await at.run(["completions", shell])
      expect({ code, out }).toEqual({ code: 0, out: expect.stringContaining("__complete") })
      expect((await at.run(["--completions", shell])).out).toBe(out)
    }
    const other = await at.run(["completions", "tcsh"])
    expect(other).toMatchObject({
      code: 2,
      out: "",
      err: expect.stringContaining("SHELL must be one of bash, zsh, fish")
    })
    expect(await at.run(["--completions", "tcsh"])).toMatchObject({ code: 2 })
    const help = (await at.run(["completions", "--help"])).out
    for (const words of ["~/.bashrc", "~/.zshrc", "~/.config/fish"]) expect(help).toContain(words)
  })

  /** A command of its own in a folder, as an installed one. */
  const installed = (at: Home): string => {
    const script = `#!/bin/sh\nexec "${process.execPath}" "${bin}" "$@"\n`
    writeFileSync(join(at.path, "aicortex"), script, { mode: 0o755 })
    return `${at.path}:${process.env["PATH"]}`
  }

  it.skipIf(!hasTerminals || !existsSync("/bin/bash"))(
    "bash completes at the Tab key, also names with a colon",
    async () => {
      const server = await fleet.ollama({ models: ["llama3.2:3b", "llama3.2:70b", "qwen3:8b"] })
      const at = home({ servers: [server.url] })
      const terminal = startTerminal(["/bin/bash", "--norc", "--noprofile", "-i"], {
        columns: 200,
        env: {
          PATH: installed(at),
          HOME: at.path,
          AICORTEX_CONFIG: at.file,
          TERM: "xterm",
          INPUTRC: "/dev/null"
        }
      })
      fleet.keep({ [Symbol.asyncDispose]: async () => terminal.stop() })
      await terminal.shows(/[#$]$/)
      terminal.type("PS1='$ '; source <(aicortex completions bash); echo rea''dy\n")
      await terminal.shows("ready\n$")
      const completes = async (typed: string, shown: string) => {
        terminal.type(`${typed}\t`)
        await terminal.shows((screen) => screen.trimEnd().endsWith(shown))
        terminal.type("\u0015")
        await terminal.shows((screen) => /(^|\n)\$$/.test(screen.trimEnd()))
      }
      await completes("aicortex chat --routing ne", "$ aicortex chat --routing nearest")
      await completes("aicortex show qw", "$ aicortex show qwen3:8b")
      await completes("aicortex show llama3.2:7", "$ aicortex show llama3.2:70b")
      await completes("aicortex show lla", "$ aicortex show llama3.2:")
      await completes("aicortex chat --model=llama3.2:3", "$ aicortex chat --model=llama3.2:3b")
      await completes("aicortex pull x --server http", `$ aicortex pull x --server ${server.url}`)
      terminal.type("exit\n")
      expect(await terminal.ended).toBe(0)
    }
  )

  it.skipIf(!has("zsh"))("zsh accepts the script", async () => {
    const at = home()
    const file = join(at.path, "script")
    writeFileSync(file, (await at.run(["completions", "zsh"])).out)
    expect(spawnSync("zsh", ["-n", file], { encoding: "utf8" })).toMatchObject({ status: 0, stderr: "" })
  })

  it.skipIf(!has("fish"))("fish completes", async () => {
    const server = await fleet.ollama({ models: ["llama3.2:3b"] })
    const at = home({ servers: [server.url] })
    const env = { PATH: installed(at), HOME: at.path, AICORTEX_CONFIG: at.file }
    const script = 'aicortex completions fish | source; complete -C "aicortex show lla"'
    expect(spawnSync("fish", ["--no-config", "-c", script], { encoding: "utf8", env }).stdout).toMatch(/^llama3\.2:3b/)
  })
})
