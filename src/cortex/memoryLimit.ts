/** How much of its memory a container uses, by the limits of its control groups (Linux, versions 1 and 2). */

/** The text of a file; `undefined` where it cannot be read. */
export type ReadFile = (path: string) => Promise<string | undefined>

/** The number that a text is, if it is one. */
export const numberIn = (text: string | undefined): number | undefined => {
  const value = Number(text?.trim() || Number.NaN)
  return Number.isFinite(value) ? value : undefined
}

/** Pages of files that were read a while ago are given back when memory is short. */
const inactive = (stat: string | undefined, field: string): number => {
  const line = stat?.split("\n").find((one) => one.startsWith(`${field} `))
  return numberIn(line?.slice(field.length)) ?? 0
}

interface Version {
  readonly root: string
  readonly path: string
  readonly limit: string
  readonly usage: string
  readonly inactive: string
}

/** The groups of this process that have memory, by `/proc/self/cgroup`. */
const versionsIn = (groups: string): ReadonlyArray<Version> =>
  groups.split("\n").flatMap((line): ReadonlyArray<Version> => {
    const [, controllers, path = "/"] = /^\d+:([^:]*):(.*)$/.exec(line.trim()) ?? []
    if (controllers === "") {
      const [limit, usage, inactive] = ["memory.max", "memory.current", "inactive_file"]
      return [{ root: "/sys/fs/cgroup", path, limit, usage, inactive }]
    }
    if (controllers?.split(",").includes("memory") !== true) return []
    const [limit, usage, inactive] = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"]
    return [{ root: "/sys/fs/cgroup/memory", path, limit, usage, inactive }]
  })

/** A group and those above it: a limit of any of them holds. Within a container its own is often the root. */
export const foldersOf = (path: string): ReadonlyArray<string> => {
  const parts = path.split("/").filter((part) => part !== "" && part !== "..")
  return parts.map((_, at) => `/${parts.slice(0, parts.length - at).join("/")}`).concat("")
}

/**
 * How much is used of the tightest limit, in percent; `undefined` where there is none. `total` is the memory of the
 * machine, in bytes: a limit above it is none.
 */
export const limitedMemoryUse = async (read: ReadFile, total: number): Promise<number | undefined> => {
  const groups = await read("/proc/self/cgroup")
  if (groups === undefined) return undefined
  let highest: number | undefined
  for (const version of versionsIn(groups)) {
    for (const folder of foldersOf(version.path)) {
      const at = `${version.root}${folder}`
      const limit = numberIn(await read(`${at}/${version.limit}`))
      if (limit === undefined || limit <= 0 || limit >= total) continue
      const usage = numberIn(await read(`${at}/${version.usage}`))
      if (usage === undefined) continue
      const used = Math.max(0, usage - inactive(await read(`${at}/memory.stat`), version.inactive))
      const share = Math.min(100, (100 * used) / limit)
      if (highest === undefined || share > highest) highest = share
    }
  }
  return highest
}
