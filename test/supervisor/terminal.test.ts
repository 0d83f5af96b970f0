/** `aicortex run` without `-d`, on a terminal. */
import { beforeAll, describe, expect, it } from "vitest"
import { defaultModelPath } from "../../src/backend/embedded.js"
import { bin, build } from "../support/cliProcess.js"
import { localHome } from "../support/localHome.js"
import { hasTerminals, startTerminal } from "../support/terminal.js"

beforeAll(build, 120_000)

describe.skipIf(!hasTerminals)("run on a terminal", () => {
  it("starts the model and a chat; the model runs until it is stopped", { timeout: 180_000 }, async () => {
    await using local = localHome()
    const command = [process.execPath, bin, "run", defaultModelPath(), "--port", "0"]
    const { path } = local.home
    const env = { PATH: process.env["PATH"], TERM: "xterm-256color", HOME: path, XDG_CONFIG_HOME: path }
    const terminal = startTerminal(command, { env, columns: 120 })
    await terminal.shows("aicortex-demo> Send a message")
    terminal.type("What is the capital of Italy?\r")
    await terminal.shows("The capital of Italy is Rome.")
    terminal.type("/exit\r")
    expect(await terminal.ended).toBe(0)
    expect(await local.ok("ps")).toContain("aicortex-demo")
    await local.ok("stop")
    expect(local.pids()).toEqual([])
  })
})
