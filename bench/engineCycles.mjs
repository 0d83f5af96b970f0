// Models of this machine, started and stopped many times, and supervisors that are killed: what is left of them.
// `node bench/engineCycles.mjs [--cycles 100] [--kills 10] [--json]`; see README.md. Measures dist/bin.js.
import { demo, listens, makeHome, option, until } from "./engine/home.mjs"

const cycles = option("cycles", 100)
const kills = option("kills", 10)
const home = makeHome()
const ports = new Set()
const found = { cycles: 0, kills: 0, starts: [], stops: [], orphansGone: [], processes: 0, ports: 0, files: [] }

const timed = async (...words) => {
  const began = performance.now()
  const out = await home.run(...words)
  return { out, time: performance.now() - began }
}

/** Starts a model, asks it, and notes its addresses. */
const start = async () => {
  const { out, time } = await timed("run", "-d", demo, "--port", "0")
  found.starts.push(time)
  const response = await fetch(`${out}/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: "aicortex-demo", messages: [{ role: "user", content: "Hi" }], max_tokens: 4 })
  })
  if (response.status !== 200) throw new Error(`${response.status} ${await response.text()}`)
  await response.json()
  const { models, url } = await home.status()
  for (const one of [url, ...models.flatMap(({ engines }) => engines.map(({ url }) => url))]) {
    ports.add(Number(new URL(one).port))
  }
}

for (let i = 0; i < cycles; i++) {
  await start()
  // Now and then the model alone first.
  if (i % 4 === 3) await home.run("stop", "aicortex-demo")
  found.stops.push((await timed("stop", "--all")).time)
  await until("everything has ended", () => home.processes().length === 0, 10_000)
  found.cycles++
  if (!process.argv.includes("--json")) process.stderr.write(`\r${found.cycles} cycles`)
}
const leftByCycles = home.files()

for (let i = 0; i < kills; i++) {
  await start()
  process.kill((await home.status()).pid, "SIGKILL")
  found.orphansGone.push(await until("no engine is left", () => home.processes().length === 0, 30_000))
  found.kills++
}
// The next supervisor finds what the killed one has left, and takes it away when it ends.
await start()
await home.run("stop", "--all")
await until("everything has ended", () => home.processes().length === 0, 10_000)

found.processes = home.processes().length
for (const port of ports) if (await listens(port)) found.ports++
found.files = [...leftByCycles, ...home.files()]

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0
const slowest = Math.max(0, ...found.orphansGone)
if (process.argv.includes("--json")) process.stdout.write(`${JSON.stringify(found)}\n`)
else {
  process.stdout.write(
    `\n${found.cycles} cycles (start ${median(found.starts).toFixed(0)} ms, stop ${median(found.stops).toFixed(0)} ms) and ${found.kills} killed supervisors left ${found.processes} processes, ${found.ports} of ${ports.size} ports and ${found.files.length} files${found.files.length === 0 ? "" : ` (${found.files.join(", ")})`}; the last orphan was gone after at most ${(slowest / 1000).toFixed(1)} s\n`
  )
}
process.exit(found.processes + found.ports + found.files.length === 0 && slowest < 5_000 ? 0 : 1)
