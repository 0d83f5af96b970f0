/** Whichever server answers breaks off, or fails at a fifth of what it is asked: how many answers are lost, with default options. */
import { createCortex } from "../src/promise.js"
import { startFakeOllama } from "../test/support/fakeServer.js"
import type { Fault } from "../test/support/faults.js"
import { table } from "./harness.js"

const answers = 200
const words = Array.from({ length: 24 }, (_, i) => ` word${i}`)

const run = async (servers: number, fault: () => Fault | undefined, begin: () => void): Promise<number> => {
  const fakes = await Promise.all(
    Array.from({ length: servers }, () => startFakeOllama({ models: ["m"], reply: words }))
  )
  const cortex = createCortex({ servers: fakes.map(({ url }) => url), configFile: false, model: "m", cacheTtl: 50 })
  let lost = 0
  try {
    await cortex.listServers()
    await Promise.all(fakes.map((fake) => fake.setBehaviour({ faults: fault })))
    for (let i = 0; i < answers; i++) {
      begin()
      try {
        if ((await cortex.chat(`number ${i}`, { temperature: 0, retryBackoff: 20 })) !== words.join("")) lost++
      } catch {
        lost++
      }
    }
  } finally {
    await cortex.close()
    await Promise.all(fakes.map((fake) => fake[Symbol.asyncDispose]()))
  }
  return lost
}

let left = 0
const cut = (): Fault | undefined => (left-- > 0 ? { kind: "cut", after: 4 } : undefined)
const faults: ReadonlyArray<Fault> = [{ kind: "status", code: 500 }, { kind: "cut", after: 4 }, { kind: "reset" }]
const some = (): Fault | undefined =>
  Math.random() < 0.2 ? faults[Math.floor(Math.random() * faults.length)] : undefined

const rows: Array<Array<string>> = []
const lose = (name: string, lost: number) => rows.push([name, `${lost} of ${answers}`])
lose(
  "3 servers, three breaks in each answer",
  await run(3, cut, () => {
    left = 3
  })
)
for (const n of [1, 3, 10]) lose(`${n} servers, 20 % faults`, await run(n, some, () => {}))
console.log(table(["scenario", "lost"], rows))
