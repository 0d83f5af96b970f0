/** What the system says of processes. */
import { execFile } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { promisify } from "node:util"

const run = promisify(execFile)

const isLinux = process.platform === "linux"

/** What stands behind the name of the program, which may hold anything, in `/proc/PID/stat`. */
const statOf = (pid: number | string): ReadonlyArray<string> | undefined => {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8")
    return text.slice(text.lastIndexOf(")") + 2).split(" ")
  } catch {
    return undefined
  }
}

/**
 * When a process started, in words of the system: together with its number it names a process for ever. `undefined` if
 * it is gone.
 */
export const startOf = async (pid: number): Promise<string | undefined> => {
  if (isLinux) {
    const stat = statOf(pid)
    // An ended process stays as a zombie until its parent reads its exit code.
    return stat === undefined || stat[0] === "Z" ? undefined : stat[19]
  }
  try {
    const { stdout } = await run("ps", ["-o", "lstart=", "-p", String(pid)])
    return stdout.trim() || undefined
  } catch {
    return undefined
  }
}

const pageSize = 4096

/** The memory of each process group, in bytes. */
export const memoryOfGroups = async (groups: ReadonlySet<number>): Promise<ReadonlyMap<number, number>> => {
  const found = new Map<number, number>()
  const add = (group: number, bytes: number) => {
    if (groups.has(group)) found.set(group, (found.get(group) ?? 0) + bytes)
  }
  if (groups.size === 0) return found
  if (isLinux) {
    for (const entry of readdirSync("/proc")) {
      if (!/^\d+$/.test(entry)) continue
      const stat = statOf(entry)
      if (stat !== undefined) add(Number(stat[2]), Number(stat[21]) * pageSize)
    }
    return found
  }
  try {
    const { stdout } = await run("ps", ["-axo", "pgid=,rss="])
    for (const line of stdout.split("\n")) {
      const [group, kilobytes] = line.trim().split(/\s+/)
      add(Number(group), Number(kilobytes) * 1024)
    }
  } catch {
    // It is not known then.
  }
  return found
}

/** Ends the process group of a process that is known by number and start; nothing else is touched. */
export const killGroup = async (pid: number, start: string): Promise<boolean> => {
  if ((await startOf(pid)) !== start) return false
  try {
    process.kill(process.platform === "win32" ? pid : -pid, "SIGKILL")
    return true
  } catch {
    return false
  }
}
