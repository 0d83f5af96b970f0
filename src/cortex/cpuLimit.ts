/** How much a container uses of the processor time that it may have, by its control groups (Linux, versions 1 and 2). */
import { foldersOf, numberIn, type ReadFile } from "./memoryLimit.js"

/** A group whose processor time has a limit. */
interface Group {
  readonly folder: string
  /** How many processors it may use. */
  readonly cores: number
  /** What it has used, in milliseconds. */
  readonly used: number
}

const version2 = async (read: ReadFile, folder: string): Promise<Group | undefined> => {
  const [quota, period] = (await read(`${folder}/cpu.max`))?.trim().split(/\s+/) ?? []
  const cores = Number(quota) / Number(period)
  if (!(cores > 0)) return undefined
  const used = numberIn(/^usage_usec (\d+)$/m.exec((await read(`${folder}/cpu.stat`)) ?? "")?.[1])
  return used === undefined ? undefined : { folder, cores, used: used / 1_000 }
}

const version1 = async (read: ReadFile, path: string): Promise<Group | undefined> => {
  const folder = `/sys/fs/cgroup/cpu${path}`
  const quota = numberIn(await read(`${folder}/cpu.cfs_quota_us`))
  const period = numberIn(await read(`${folder}/cpu.cfs_period_us`))
  // No limit is a negative one.
  if (quota === undefined || period === undefined || !(quota > 0 && period > 0)) return undefined
  const used = numberIn(await read(`/sys/fs/cgroup/cpuacct${path}/cpuacct.usage`))
  return used === undefined ? undefined : { folder, cores: quota / period, used: used / 1e6 }
}

const groupsOf = async (read: ReadFile): Promise<ReadonlyArray<Group>> => {
  const found: Array<Group> = []
  for (const line of ((await read("/proc/self/cgroup")) ?? "").split("\n")) {
    const [, controllers, path = "/"] = /^\d+:([^:]*):(.*)$/.exec(line.trim()) ?? []
    const isFirst = controllers?.split(",").includes("cpu") === true
    if (controllers !== "" && !isFirst) continue
    for (const folder of foldersOf(path)) {
      const group = await (isFirst ? version1(read, folder) : version2(read, `/sys/fs/cgroup${folder}`))
      if (group !== undefined) found.push(group)
    }
  }
  return found
}

/** Follows the processor time of a container. */
export class LimitedCpu {
  private before: ReadonlyMap<string, Group> = new Map()
  private at = 0

  /** `cores` are those of the machine: a limit that is not below it is none. */
  constructor(
    private readonly read: ReadFile,
    private readonly cores: number
  ) {}

  /**
   * How much of the tightest limit was used since the last time, in percent; `undefined` where there is none, and the first
   * time. `now` is in milliseconds.
   */
  async use(now: number): Promise<number | undefined> {
    const { at, before } = this
    const groups = (await groupsOf(this.read)).filter(({ cores }) => cores < this.cores)
    this.before = new Map(groups.map((group) => [group.folder, group]))
    this.at = now
    let highest: number | undefined
    for (const { cores, folder, used } of groups) {
      const last = before.get(folder)
      if (last === undefined || now <= at) continue
      const share = Math.min(100, Math.max(0, (100 * (used - last.used)) / ((now - at) * cores)))
      if (highest === undefined || share > highest) highest = share
    }
    return highest
  }
}
