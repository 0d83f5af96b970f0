/** The package as it would be published, and empty projects that it is installed into. */
import { execFile } from "node:child_process"
import { readFile } from "node:fs/promises"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

export const root = fileURLToPath(new URL("../..", import.meta.url))
export const tool = (name: string) => join(root, "node_modules/.bin", name)
export const json = async (file: string) => JSON.parse(await readFile(file, "utf8"))

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

export const run = (cwd: string, command: string, ...args: ReadonlyArray<string>) => execute(cwd, 0, command, args)

/** A program that is done is gone: a socket or a timer that holds it is a bug. */
export const runProgram = (cwd: string, file: string, ...args: ReadonlyArray<string>) =>
  execute(cwd, 60_000, process.execPath, [file, ...args])

/** Builds what is missing and packs it into a folder. */
export const pack = async (
  folder: string
): Promise<{ readonly tarball: string; readonly files: ReadonlyArray<string> }> => {
  await run(root, process.execPath, "scripts/setup.mjs", "--all")
  const [packed] = JSON.parse(
    await run(root, "npm", "pack", "--json", "--ignore-scripts", "--pack-destination", folder)
  )
  return {
    tarball: join(folder, packed.filename),
    files: packed.files.map((file: { readonly path: string }) => file.path)
  }
}

/** Installs packages into a project, from what npm has stored where that will do. */
export const installQuietly = (project: string, ...packages: ReadonlyArray<string>): Promise<string> =>
  run(
    project,
    "npm",
    "install",
    "--prefer-offline",
    "--no-audit",
    "--no-fund",
    "--ignore-scripts",
    "--loglevel=error",
    ...packages
  )

const fakeOllama = () =>
  createServer((request, response) => {
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

/** As much of an Ollama server as one streamed answer needs. */
export const answering = async (): Promise<{ readonly url: string; readonly close: () => void }> => {
  const server = fakeOllama()
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => {
      server.closeAllConnections()
      server.close()
    }
  }
}
