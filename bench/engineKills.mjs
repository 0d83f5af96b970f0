// Engines of one model that are killed in mid-answer under load:
// `node bench/engineKills.mjs [--kills 50] [--streams 6] [--json]`; see README.md. Measures dist/bin.js.
import { setTimeout as sleep } from "node:timers/promises"
import { demo, makeHome, option, until } from "./engine/home.mjs"

const kills = option("kills", 50)
const streams = option("streams", 6)

const home = makeHome()
const url = await home.run("run", "-d", demo, "--replicas", "2", "--port", "0")

/** Short answers that are the same each time. */
const prompts = [
  "Tell me a short story about a friendly robot.",
  "What is the capital of France?",
  "Count from one to twenty.",
  "Write a haiku about programming."
]

const ask = async (content) => {
  const response = await fetch(`${url}/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model: "aicortex-demo",
      messages: [{ role: "user", content }],
      temperature: 0,
      stream: true
    })
  })
  const body = await response.text()
  if (response.status !== 200) throw new Error(`${response.status} ${body.slice(0, 300)}`)
  let text = ""
  let ended = false
  for (const line of body.split("\n")) {
    if (line === "data: [DONE]") ended = true
    else if (line.startsWith("data: ")) {
      const { choices, error } = JSON.parse(line.slice(6))
      if (error !== undefined) throw new Error(error.message)
      text += choices?.[0]?.delta?.content ?? ""
    }
  }
  if (!ended) throw new Error("the stream ended early")
  return text
}

const alone = new Map()
for (const prompt of prompts) alone.set(prompt, await ask(prompt))

const found = { kills: 0, inAnswer: 0, answered: 0, failed: 0, lost: 0, doubled: 0, other: 0 }
const examples = []
let over = false
const worker = async (first) => {
  for (let i = first; !over; i++) {
    const prompt = prompts[i % prompts.length]
    const expected = alone.get(prompt)
    try {
      const text = await ask(prompt)
      if (text === expected) found.answered++
      else {
        examples.push({ prompt, text })
        // A part that is missing, a part that is there twice, or another answer.
        if (text.length < expected.length) found.lost++
        else if (text.length > expected.length) found.doubled++
        else found.other++
      }
    } catch (error) {
      found.failed++
      examples.push({ prompt, error: String(error) })
    }
  }
}

const workers = Promise.all(Array.from({ length: streams }, (_, i) => worker(i)))
/** When each address had its engine killed: more than four ends in a minute, and the supervisor gives up. */
const ends = new Map()
const began = performance.now()
while (found.kills < kills) {
  let victims = []
  await until(
    "an engine that writes an answer",
    async () => {
      const engines = await home.engines()
      const now = performance.now()
      const spared = ({ url }) => (ends.get(url) ?? []).filter((at) => now - at < 65_000).length >= 4
      victims = engines.filter((one) => one.state === "ready" && one.inFlight > 0 && !spared(one))
      return victims.length > 0 && engines.every(({ state }) => state === "ready")
    },
    180_000
  )
  const victim = victims[found.kills % victims.length]
  ends.set(victim.url, [...(ends.get(victim.url) ?? []), performance.now()])
  process.kill(victim.pid, "SIGKILL")
  found.kills++
  found.inAnswer += victim.inFlight
  await until("its end is noticed", async () => (await home.engines()).some(({ state }) => state !== "ready"))
  if (!process.argv.includes("--json")) process.stderr.write(`\r${found.kills} killed, ${found.answered} answered`)
  await sleep(100)
}
over = true
await workers
await home.run("stop", "--all")
await until("everything has ended", () => home.processes().length === 0, 10_000)
const seconds = Math.round((performance.now() - began) / 1000)

const { answered, doubled, failed, inAnswer, lost, other } = found
if (process.argv.includes("--json")) process.stdout.write(`${JSON.stringify({ ...found, seconds, examples })}\n`)
else {
  process.stdout.write(
    `\n${found.kills} engines killed in ${seconds} s, with ${inAnswer} answers in progress; of ${answered + failed + lost + doubled + other} answers ${failed} failed, ${lost} lost and ${doubled} doubled text, ${other} were others\n`
  )
  for (const example of examples.slice(0, 5)) process.stdout.write(`${JSON.stringify(example)}\n`)
}
process.exit(failed + lost + doubled + other === 0 ? 0 : 1)
