import { describe, expect, it } from "vitest"
import { limitedMemoryUse } from "../../src/cortex/memoryLimit.js"

const total = 16_000
const use = (files: { readonly [path: string]: string }) =>
  limitedMemoryUse((path) => Promise.resolve(files[path]), total)

const v2 = "/sys/fs/cgroup"
const v1 = "/sys/fs/cgroup/memory"

describe("the memory of a container", () => {
  it.each<[string, { readonly [path: string]: string }, number | undefined]>([
    ["no control groups", {}, undefined],
    ["version 2, no limit", { "/proc/self/cgroup": "0::/", [`${v2}/memory.max`]: "max\n" }, undefined],
    [
      "version 2 in a container, whose group is the root",
      {
        "/proc/self/cgroup": "0::/\n",
        [`${v2}/memory.max`]: "1000\n",
        [`${v2}/memory.current`]: "900\n",
        [`${v2}/memory.stat`]: "anon 100\ninactive_file 400\n"
      },
      50
    ],
    [
      "version 2, the limit of the group above",
      {
        "/proc/self/cgroup": "0::/user.slice/app.scope",
        [`${v2}/user.slice/app.scope/memory.max`]: "max",
        [`${v2}/user.slice/memory.max`]: "2000",
        [`${v2}/user.slice/memory.current`]: "1900"
      },
      95
    ],
    [
      "version 2, the tightest of several",
      {
        "/proc/self/cgroup": "0::/a/b",
        [`${v2}/a/b/memory.max`]: "1000",
        [`${v2}/a/b/memory.current`]: "100",
        [`${v2}/a/memory.max`]: "4000",
        [`${v2}/a/memory.current`]: "3600"
      },
      90
    ],
    [
      "version 1, its own group",
      {
        "/proc/self/cgroup": "5:cpu,cpuacct:/\n4:memory:/docker/abc\n0::/",
        [`${v1}/docker/abc/memory.limit_in_bytes`]: "1000\n",
        [`${v1}/docker/abc/memory.usage_in_bytes`]: "950\n",
        [`${v1}/docker/abc/memory.stat`]: "inactive_file 1\ntotal_inactive_file 100\n"
      },
      85
    ],
    [
      "version 1 in a container, whose group is mounted at the root",
      {
        "/proc/self/cgroup": "4:memory:/docker/abc",
        [`${v1}/memory.limit_in_bytes`]: "1000",
        [`${v1}/memory.usage_in_bytes`]: "600"
      },
      60
    ],
    [
      "version 1 without a limit says the largest number",
      {
        "/proc/self/cgroup": "4:memory:/",
        [`${v1}/memory.limit_in_bytes`]: "9223372036854771712",
        [`${v1}/memory.usage_in_bytes`]: "600"
      },
      undefined
    ],
    [
      "a path that leads out of the mount",
      { "/proc/self/cgroup": "0::/../../x", [`${v2}/x/memory.max`]: "10", [`${v2}/x/memory.current`]: "9" },
      90
    ]
  ])("%s", async (_, files, expected) => {
    expect(await use(files)).toBe(expected)
  })
})
