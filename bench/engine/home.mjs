// A home of its own for the models of this machine, and what runs and is left in it. Linux only: it reads /proc.
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { request } from "node:http"
import { connect } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../..", import.meta.url))
const bin = join(root, "dist/bin.js")

export const demo = join(root, "registry/demo/aicortex-demo.gguf")

export const option = (name, otherwise) => {
  const at = process.argv.indexOf(`--${name}`)
  return at === -1 ? otherwise : Number(process.argv[at + 1])
}

export const until = async (what, test, patience = 60_000) => {
  const began = performance.now()
  while (!(await test())) {
    if (performance.now() - began > patience) throw new Error(`not within ${patience / 1000} s: ${what}`)
    await sleep(10)
  }
  return performance.now() - began
}

export const listens = (port) =>
  new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port })
    socket.once("connect", () => {
      socket.destroy()
      resolve(true)
    })
    socket.once("error", () => resolve(false))
  })

/** A home; everything that still runs in it is killed when this process ends. */
export const makeHome = () => {
  const path = mkdtempSync(join(tmpdir(), "aicortex-engines-"))
  const temporary = join(path, "tmp")
  mkdirSync(temporary)
  const env = { ...process.env, HOME: path, XDG_CONFIG_HOME: path, XDG_STATE_HOME: path, TMPDIR: temporary }
  const local = join(path, "aicortex", "local")

  /** The processes of this home, those that were started by others included. */
  const processes = () =>
    readdirSync("/proc").filter((pid) => {
      if (!/^\d+$/.test(pid)) return false
      try {
        return readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(`HOME=${path}`)
      } catch {
        return false
      }
    })

  /** Runs the command line; gives its output. */
  const run = async (...words) => {
    const child = spawn(process.execPath, [bin, ...words], { env, stdio: ["ignore", "pipe", "pipe"] })
    let out = ""
    let err = ""
    child.stdout.setEncoding("utf8").on("data", (text) => {
      out += text
    })
    child.stderr.setEncoding("utf8").on("data", (text) => {
      err += text
    })
    const [code] = await once(child, "close")
    if (code !== 0) throw new Error(`aicortex ${words.join(" ")} ended with ${code}: ${err}`)
    return out.trim()
  }

  /** What the supervisor says of itself. */
  const status = () =>
    new Promise((resolve, reject) => {
      const asked = request({ socketPath: join(local, "supervisor.sock"), path: "/status" }, (response) => {
        let text = ""
        response.setEncoding("utf8").on("data", (piece) => {
          text += piece
        })
        response.on("end", () => resolve(JSON.parse(text)))
        response.on("error", reject)
      })
      asked.on("error", reject)
      asked.end()
    })

  const engines = async () => (await status()).models.flatMap(({ engines }) => engines)

  process.on("exit", () => {
    for (const pid of processes()) {
      try {
        process.kill(Number(pid), "SIGKILL")
      } catch {
        // It has ended.
      }
    }
    rmSync(path, { recursive: true, force: true })
  })
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1))

  return {
    run,
    status,
    engines,
    processes,
    /** What is left in the folders of temporary files and of the supervisor, besides logs. */
    files: () => [
      ...readdirSync(temporary),
      ...readdirSync(local).filter((name) => name !== "logs" && name !== "supervisor.log")
    ]
  }
}
