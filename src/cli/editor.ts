/** The user's own editor. */
import { spawn } from "node:child_process"

/** `VISUAL`, `EDITOR`, or the one that the system has. */
const editor = (): string =>
  process.env["VISUAL"] || process.env["EDITOR"] || (process.platform === "win32" ? "notepad" : "vi")

/** A command line with arguments of its own, such as `code --wait`, is the shell's to read. */
const run = (command: string, file: string): Promise<number | null> =>
  new Promise((resolve, reject) => {
    const child =
      process.platform === "win32"
        ? spawn(`${command} "${file}"`, { stdio: "inherit", shell: true })
        : spawn("/bin/sh", ["-c", `${command} "$1"`, "sh", file], { stdio: "inherit" })
    child.on("error", reject)
    child.on("close", resolve)
  })

/** Opens a file in the editor, and waits until that has ended. Fails if it does not end well. */
export const open = async (file: string): Promise<void> => {
  const command = editor()
  const code = await run(command, file)
  if (code !== 0) throw new Error(`the editor \`${command}\` failed${code === null ? "" : ` (exit code ${code})`}`)
}
