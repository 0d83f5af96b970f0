/**
 * `aicortex run -d FILE` and what holds its model, without all that the command line is made of: that takes longer to
 * load than everything else here takes.
 */
import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { engineArguments } from "../../engines/aicortexArguments.js"
import type { CheckedOptions } from "../../LocalModels.js"
import type { Answer, NoAnswer } from "../../supervisor/controlRequests.js"
import { engineOptions } from "../../supervisor/engineOptions.js"
import { launch } from "../../supervisor/launch.js"
import { pathsOfUser } from "../../supervisor/layout.js"
import { defaultPort } from "../../supervisor/port.js"
import { absolute, baseUrl, nameOf } from "./names.js"
import type { Flags } from "./run.js"
import { optionsOf } from "./startOptions.js"

/** It imports an HTTP client, which takes as long as starting a process. */
const controlRequests = () => import("../../supervisor/controlRequests.js")

const ask = async (socket: string, method: string, path: string, body?: unknown): Promise<Answer | NoAnswer> => {
  const { send } = await controlRequests()
  return new Promise((resolve) => {
    send(socket, method, path, body, resolve, resolve)
  })
}

/** Whether a supervisor may run; only pipes of Windows cannot be looked for. */
const mayRun = (socket: string): boolean => process.platform === "win32" || existsSync(socket)

/** Whether none answered. */
const isNone = async (found: Answer | NoAnswer): Promise<boolean> =>
  "reason" in found && found.reason === (await controlRequests()).noSupervisor

const urlOf = (answer: Answer): string | undefined => {
  const { url } = JSON.parse(answer.body) as { readonly url?: unknown }
  return typeof url === "string" ? url : undefined
}

const print = (text: string): Promise<void> =>
  new Promise((resolve, reject) => {
    process.stdout.write(text, (error) => {
      if (error === undefined || error === null || ("code" in error && error.code === "EPIPE")) resolve()
      else reject(error)
    })
  })

/**
 * Runs a file in the background. `false`: that is not what was asked for, or not as simple as that; nothing has happened
 * then that the whole command line would not do as well.
 */
export const runQuickly = async (flags: Flags): Promise<boolean> => {
  const model = absolute(flags.model)
  if (!flags.detach || !model.toLowerCase().endsWith(".gguf") || !existsSync(model)) return false
  const bin = fileURLToPath(new URL("../../bin.js", import.meta.url))
  const { port } = flags
  const options = optionsOf(flags)
  const at = pathsOfUser()

  let found = mayRun(at.socket) ? await ask(at.socket, "GET", "/status") : undefined
  if ((found === undefined || (await isNone(found))) && existsSync(bin)) {
    // Durations are not among these flags: what is given is what is checked.
    const source = { name: nameOf(model), path: model }
    const early = engineArguments(source, engineOptions(options as CheckedOptions), 0)
    const command = { file: process.execPath, args: [bin] }
    const launched = launch(at, command, ["--port", String(port ?? defaultPort)], [bin, ...early])
    await Promise.all([launched.catch(() => undefined), controlRequests()])
    found = await ask(at.socket, "GET", "/status")
  }
  if (found === undefined || "reason" in found || found.status !== 200) return false
  const url = urlOf(found)
  if (url === undefined || (port !== undefined && port !== 0 && Number(new URL(url).port) !== port)) return false

  const started = await ask(at.socket, "POST", "/start", { model, options })
  if ("reason" in started || started.status !== 200) {
    const { fail } = await import("./quickFailure.js")
    fail(started)
    return true
  }
  const name: unknown = JSON.parse(started.body)
  const shown = baseUrl({ url })
  await print(flags.json ? `${JSON.stringify({ model: name, url: shown }, undefined, 2)}\n` : `${shown}\n`)
  return true
}
