/** The user's own editor. */
import { spawn } from "node:child_process"
import * as Effect from "effect/Effect"
import { CommandFailed } from "./errors.js"

/** `VISUAL`, else `EDITOR`, else what the system has. */
const editor = (): string =>
  process.env["VISUAL"]?.trim() || process.env["EDITOR"]?.trim() || (process.platform === "win32" ? "notepad" : "vi")

/** Opens a file in the user's editor, and waits until that has ended. */
export const edit = (file: string): Effect.Effect<void, CommandFailed> =>
  Effect.async((resume) => {
    const command = editor()
    const fail = (reason: string) =>
      resume(Effect.fail(new CommandFailed({ message: `the editor \`${command}\` ${reason}; set EDITOR to another` })))
    // The variable may have arguments, as in `code --wait`.
    const child =
      process.platform === "win32"
        ? spawn(`${command} "${file}"`, { shell: true, stdio: "inherit" })
        : spawn("sh", ["-c", `${command} "$1"`, "sh", file], { stdio: "inherit" })
    child.on("error", (error) => fail(`cannot be started: ${error.message}`))
    child.on("close", (code) => {
      if (code === 0) resume(Effect.void)
      else fail(`ended with ${code === null ? "a signal" : `exit code ${code}`}`)
    })
    return Effect.sync(() => child.kill())
  })
