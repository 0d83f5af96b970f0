/** Writes a text in the user's editor. */
import { spawn } from "node:child_process"
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"

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

/** The text as the editor left it. Fails if the editor does. The file is readable by the user alone, and removed. */
export const edit = async (text: string): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), "aicortex-"))
  try {
    const file = join(folder, "message.md")
    await writeFile(file, text, { mode: 0o600 })
    const command = editor()
    const code = await run(command, file)
    if (code !== 0) throw new Error(`the editor \`${command}\` failed${code === null ? "" : ` (exit code ${code})`}`)
    return (await readFile(file, "utf8")).replace(/\s+$/, "")
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
