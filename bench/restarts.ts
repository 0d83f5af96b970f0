/**
 * Whichever server answers breaks off, or fails at a fifth of what it is asked: how many answers are lost, with default
 * options, through the library and through the gateway, whole and streamed.
 */
import { createHash } from "node:crypto"
import { createCortex } from "../src/promise.js"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../test/support/fakeServer.js"
import type { Fault, FaultPlan } from "../test/support/faults.js"
import { startGateway } from "../test/support/gateway.js"
import { table } from "./harness.js"

const args = process.argv.slice(2)
const option = (name: string, otherwise: number): number => {
  const at = args.indexOf(`--${name}`)
  return at === -1 ? otherwise : Number(args[at + 1])
}
const answers = option("answers", 200)
const faultyAnswers = option("faulty-answers", 1_000)
const clients = option("clients", 16)
const seed = option("seed", 1)

const model = "m"
const words = Array.from({ length: 24 }, (_, i) => ` word${i}`)
const whole = words.join("")

/** Asks one question, and gives what came. */
type Send = (question: string) => Promise<string>

interface Face {
  readonly name: string
  readonly open: (servers: ReadonlyArray<FakeServer>) => Promise<{ readonly ask: Send } & AsyncDisposable>
}

const library = (stream: boolean): Face => ({
  name: `library, ${stream ? "streamed" : "whole"}`,
  open: async (servers) => {
    const cortex = createCortex({ servers: servers.map(({ url }) => url), configFile: false, model })
    await cortex.listServers()
    return {
      ask: async (question) =>
        stream ? (await cortex.chat(question, { stream: true })).text() : cortex.chat(question),
      [Symbol.asyncDispose]: () => cortex.close()
    }
  }
})

const gateway = (stream: boolean): Face => ({
  name: `gateway, ${stream ? "streamed" : "whole"}`,
  open: async (servers) => {
    const started = await startGateway(servers.map(({ url }) => url))
    await started.get("/v1/models")
    const ask: Send = async (question) => {
      const messages = [{ role: "user", content: question }]
      const text = await (await started.post("/v1/chat/completions", { model, messages, stream })).text()
      if (!stream) return JSON.parse(text).choices[0].message.content
      if (!text.includes("data: [DONE]")) throw new Error("the stream has no end")
      return [...text.matchAll(/^data: (\{.*\})$/gm)]
        .map(([, event = ""]) => JSON.parse(event).choices[0]?.delta?.content ?? "")
        .join("")
    }
    return { ask, [Symbol.asyncDispose]: started.close }
  }
})

interface Scenario {
  readonly name: string
  readonly servers: number
  readonly answers: number
  /** The share of answers that may be lost. */
  readonly allowed: number
  readonly befalls: Befalls
}

/** What befalls an attempt at a question, whichever server is asked: `question` and `attempt` count from 0. */
type Befalls = (question: number, attempt: number) => Fault | undefined

const planOf = (befalls: Befalls): FaultPlan => {
  const attempts = new Map<number, number>()
  return (_, body) => {
    const question = Number(/number (\d+)/.exec(JSON.stringify(body))?.[1])
    const attempt = attempts.get(question) ?? 0
    attempts.set(question, attempt + 1)
    return befalls(question, attempt)
  }
}

const restarting: Befalls = (_, attempt) => (attempt < 3 ? { kind: "cut", after: 4 } : undefined)

/** From 0 to 1, the same for the same numbers. */
const chance = (...numbers: ReadonlyArray<number>): number =>
  createHash("sha256").update(numbers.join()).digest().readUInt32BE() / 2 ** 32

const faults: ReadonlyArray<Fault> = [{ kind: "status", code: 500 }, { kind: "cut", after: 4 }, { kind: "reset" }]
const some: Befalls = (question, attempt) =>
  chance(seed, question, attempt) < 0.2
    ? faults[Math.floor(chance(seed, question, attempt, 1) * faults.length)]
    : undefined

const scenarios: ReadonlyArray<Scenario> = [
  ...[1, 3].map((servers) => ({
    name: `${servers} server${servers === 1 ? "" : "s"}, three restarts in each answer`,
    servers,
    answers,
    allowed: 0,
    befalls: restarting
  })),
  ...[1, 3, 10].map((servers) => ({
    name: `${servers} server${servers === 1 ? "" : "s"}, 20 % faults`,
    servers,
    answers: faultyAnswers,
    allowed: 0.001,
    befalls: some
  }))
]

/** How many answers are lost, and why the first ones were. */
const run = async (scenario: Scenario, face: Face, problems: Array<string>): Promise<number> => {
  const fakes = await Promise.all(
    Array.from({ length: scenario.servers }, (_, i) =>
      (i % 2 === 0 ? startFakeOllama : startFakeOpenAI)({ models: [model], reply: words })
    )
  )
  let lost = 0
  try {
    await using opened = await face.open(fakes)
    const plan = planOf(scenario.befalls)
    await Promise.all(fakes.map((fake) => fake.setBehaviour({ faults: plan })))
    let requestCount = 0
    const client = async () => {
      while (requestCount < scenario.answers) {
        try {
          const text = await opened.ask(`number ${requestCount++}`)
          if (text === whole) continue
          throw new Error(`not the expected text: ${text}`)
        } catch (error) {
          if (lost++ < 3) problems.push(`${scenario.name}, ${face.name}: ${error}`.slice(0, 400))
        }
      }
    }
    await Promise.all(Array.from({ length: clients }, client))
  } finally {
    await Promise.all(fakes.map((fake) => fake[Symbol.asyncDispose]()))
  }
  return lost
}

const faces = [library(false), library(true), gateway(false), gateway(true)]
const problems: Array<string> = []
const results: Array<{ readonly scenario: string; readonly answers: number; readonly lost: Record<string, number> }> =
  []
let ok = true
for (const scenario of scenarios) {
  // Each has servers of its own.
  const counts = await Promise.all(faces.map((face) => run(scenario, face, problems)))
  ok &&= counts.every((count) => count <= scenario.answers * scenario.allowed)
  const lost = Object.fromEntries(faces.map(({ name }, i) => [name, counts[i] ?? 0]))
  results.push({ scenario: scenario.name, answers: scenario.answers, lost })
}
if (args.includes("--json")) console.log(JSON.stringify({ results, problems }))
else {
  console.log(
    table(
      ["lost, with default options", ...faces.map(({ name }) => name)],
      results.map(({ answers, lost, scenario }) => [
        scenario,
        ...faces.map(({ name }) => `${lost[name]} of ${answers}`)
      ])
    )
  )
  for (const problem of problems) console.log(`  ${problem}`)
}
process.exit(ok ? 0 : 1)
