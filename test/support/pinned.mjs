/** Programs that tests run and the project does not depend on: folders of test/ with pinned packages of their own. */
import { spawnSync } from "node:child_process"
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"

/** Runs a command with its output on standard error, and gives its exit code. @type {(say: (message: string) => void, command: string, args: ReadonlyArray<string>, cwd: string) => number} */
export const run = (say, command, args, cwd) => {
  const { error, status } = spawnSync(command, args, { cwd, stdio: ["ignore", 2, 2] })
  if (error !== undefined) say(`${command}: ${error.message}`)
  return status ?? 1
}

/** Installs what the lock file of a folder names, once. @type {(say: (message: string) => void, folder: string, what: string) => void} */
export const install = (say, folder, what) => {
  const wanted = readFileSync(join(folder, "package-lock.json"), "utf8")
  const note = join(folder, "node_modules", ".installed.json")
  if (existsSync(note) && readFileSync(note, "utf8") === wanted) return
  say(`installing ${what} (npm ci), once…`)
  rmSync(note, { force: true })
  const args = ["ci", "--ignore-scripts", "--include=optional", "--loglevel=error", "--no-progress"]
  if (run(say, "npm", args, folder) !== 0) throw new Error("npm ci failed; its words stand above.")
  writeFileSync(note, wanted)
}
