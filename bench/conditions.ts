/**
 * What the monitors of the machine cost: processor time of this process and of the programs that it runs, per second.
 */
import { readFileSync } from "node:fs"
import { setTimeout as sleep } from "node:timers/promises"
import { ResourceReader } from "../src/cortex/resourceReader.js"

const quick = process.argv.includes("--quick")
const readings = quick ? 5 : 30
/** As often as `Conditions` reads. */
const interval = 5_000
const target = 0.5

/** Ticks of this process and of its children that ended (Linux), else only its own, in milliseconds. */
const used = (): number => {
  try {
    const fields = readFileSync("/proc/self/stat", "utf8")
      .replace(/^.*\) /s, "")
      .split(" ")
    const children = Number(fields[13]) + Number(fields[14])
    const { system, user } = process.cpuUsage()
    return (user + system) / 1_000 + children * 10
  } catch {
    const { system, user } = process.cpuUsage()
    return (user + system) / 1_000
  }
}

const reader = new ResourceReader()
const before = used()
const first = await reader.read()
const start = used() - before
// The package gives the same figures again within 200 ms; a pause lets each reading do its work.
const from = used()
let took = 0
for (let i = 0; i < readings; i++) {
  await sleep(250)
  const began = performance.now()
  await reader.read()
  took += performance.now() - began
}
const each = (used() - from) / readings
await reader.close()
const share = (100 * each) / interval
process.stdout.write(`read: ${JSON.stringify(first)}\n`)
process.stdout.write(`the first reading: ${start.toFixed(0)} ms of a processor, once\n`)
process.stdout.write(`each reading: ${each.toFixed(2)} ms of a processor, ${(took / readings).toFixed(1)} ms long\n`)
process.stdout.write(
  `${share.toFixed(3)} % of a core at one in 5 s (target ${target} %): ${share <= target ? "ok" : "MISS"}\n`
)
process.exitCode = share <= target ? 0 : 1
