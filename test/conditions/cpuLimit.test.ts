import { describe, expect, it } from "vitest"
import { LimitedCpu } from "../../src/cortex/cpuLimit.js"

const v2 = "/sys/fs/cgroup"
const v1 = "/sys/fs/cgroup/cpu"

type Files = { readonly [path: string]: string }

/** What is used between two readings, one second apart, on a machine with 8 processors. */
const use = async (first: Files, second: Files) => {
  let files = first
  const limited = new LimitedCpu((path) => Promise.resolve(files[path]), 8)
  expect(await limited.use(10_000)).toBeUndefined()
  files = { ...first, ...second }
  return limited.use(11_000)
}

describe("the processor time of a container", () => {
  const inV2 = { "/proc/self/cgroup": "0::/\n", [`${v2}/cpu.max`]: "50000 100000\n" }
  const stat = (used: number) => ({ [`${v2}/cpu.stat`]: `usage_usec ${used}\nuser_usec 1\n` })

  it.each<[string, Files, Files, number | undefined]>([
    ["no control groups", {}, {}, undefined],
    ["version 2, half of half a processor", { ...inV2, ...stat(1_000_000) }, stat(1_250_000), 50],
    ["version 2, all of it, and more by a hair", { ...inV2, ...stat(1_000_000) }, stat(1_510_000), 100],
    ["version 2, idle", { ...inV2, ...stat(1_000_000) }, stat(1_000_000), 0],
    ["version 2, no limit", { ...inV2, [`${v2}/cpu.max`]: "max 100000", ...stat(0) }, stat(900_000), undefined],
    [
      "version 2, a limit above the machine",
      { ...inV2, [`${v2}/cpu.max`]: "900000 100000", ...stat(0) },
      stat(900_000),
      undefined
    ],
    [
      "version 2, the tightest of several",
      {
        "/proc/self/cgroup": "0::/a/b",
        [`${v2}/a/b/cpu.max`]: "400000 100000",
        [`${v2}/a/b/cpu.stat`]: "usage_usec 0",
        [`${v2}/a/cpu.max`]: "100000 100000",
        [`${v2}/a/cpu.stat`]: "usage_usec 0"
      },
      { [`${v2}/a/b/cpu.stat`]: "usage_usec 800000", [`${v2}/a/cpu.stat`]: "usage_usec 900000" },
      90
    ],
    [
      "version 1",
      {
        "/proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n",
        [`${v1}/docker/abc/cpu.cfs_quota_us`]: "200000\n",
        [`${v1}/docker/abc/cpu.cfs_period_us`]: "100000\n",
        "/sys/fs/cgroup/cpuacct/docker/abc/cpuacct.usage": "5000000000\n"
      },
      { "/sys/fs/cgroup/cpuacct/docker/abc/cpuacct.usage": "6600000000\n" },
      80
    ],
    [
      "version 1, no limit",
      {
        "/proc/self/cgroup": "5:cpu,cpuacct:/",
        [`${v1}/cpu.cfs_quota_us`]: "-1",
        [`${v1}/cpu.cfs_period_us`]: "100000",
        "/sys/fs/cgroup/cpuacct/cpuacct.usage": "0"
      },
      {},
      undefined
    ],
    [
      "unreadable figures",
      { "/proc/self/cgroup": "0::/", [`${v2}/cpu.max`]: "a b", [`${v2}/cpu.stat`]: "" },
      {},
      undefined
    ]
  ])("%s", async (_, first, second, expected) => {
    const found = await use(first, second)
    if (expected === undefined) expect(found).toBeUndefined()
    else expect(found).toBeCloseTo(expected)
  })
})
