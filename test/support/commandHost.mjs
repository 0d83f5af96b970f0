/**
 * Runs commands of the built command line one after another in this process, which has it loaded. Each has its own
 * environment, standard output and standard error; its `process.exit` ends the command and not the process.
 */
import { AsyncLocalStorage } from "node:async_hooks"
import { readdirSync } from "node:fs"
import { Writable } from "node:stream"

const folder = new URL("../../dist/bin/", import.meta.url)
const [file, ...others] = readdirSync(folder).filter((name) => /^main-\w+\.js$/.test(name))
if (file === undefined || others.length > 0) throw new Error(`${folder} has no command line, or several`)
const { main } = await import(new URL(file, folder).href)

const commands = new AsyncLocalStorage()
const command = () => {
  const running = commands.getStore()
  if (running === undefined) throw new Error("this belongs to no command")
  return running
}
Object.defineProperty(process, "stdout", { get: () => command().stdout })
Object.defineProperty(process, "stderr", { get: () => command().stderr })
process.exit = (code) => command().exit(code)

process.on("message", ({ args, env }) => {
  for (const name of Object.keys(process.env)) if (!Object.hasOwn(env, name)) delete process.env[name]
  Object.assign(process.env, env)
  process.exitCode = undefined
  const said = { stdout: "", stderr: "" }
  const output = (name) =>
    new Writable({
      decodeStrings: false,
      write: (text, _, done) => {
        said[name] += text
        done()
      }
    })
  const exit = (code) => {
    for (const signal of ["SIGINT", "SIGTERM"]) process.removeAllListeners(signal)
    process.send({ code: code ?? process.exitCode ?? 0, ...said })
  }
  commands.run({ stdout: output("stdout"), stderr: output("stderr"), exit }, () => main(args))
})
process.send("ready")
