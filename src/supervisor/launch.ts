/** Starts the supervisor of this user in the background. */
import { spawn } from "node:child_process"
import { closeSync, openSync } from "node:fs"
import { earlyEngine } from "../cortex/earlyEngine.js"
import { ownFolder, type Paths } from "./layout.js"

/** The command line of this package. */
export interface CommandLine {
  readonly file: string
  readonly args: ReadonlyArray<string>
}

/**
 * What became of a supervisor that was started: it answers, or it ended with a code. With 0, another one is there,
 * which may still be starting.
 */
export type Launched = { readonly answers: true } | { readonly answers: false; readonly code: number | null }

/**
 * Starts it with the flags of `aicortex start --foreground`, and waits until it answers, which it says on its standard
 * output. `first`: what it starts an engine with at once, before it can do anything else;
 * `environment`: its variables in addition to those of this process.
 */
export const launch = (
  at: Paths,
  { args, file }: CommandLine,
  flags: ReadonlyArray<string>,
  first?: ReadonlyArray<string>,
  environment: NodeJS.ProcessEnv = {}
): Promise<Launched> => {
  for (const folder of [at.folder, at.logs]) ownFolder(folder)
  const log = openSync(at.log, "w", 0o600)
  try {
    const child = spawn(file, [...args, "start", "--foreground", "--json", ...flags], {
      detached: true,
      stdio: ["ignore", "pipe", log],
      cwd: at.folder,
      env: { ...process.env, ...environment, ...(first === undefined ? {} : { [earlyEngine]: JSON.stringify(first) }) },
      windowsHide: true
    })
    return new Promise((resolve, reject) => {
      const { stdout } = child
      const settle = (launched: Launched) => {
        stdout?.destroy()
        child.unref()
        resolve(launched)
      }
      child.once("error", reject)
      stdout?.on("error", () => {})
      stdout?.once("data", () => settle({ answers: true }))
      child.once("exit", (code) => settle({ answers: false, code }))
    })
  } finally {
    closeSync(log)
  }
}
