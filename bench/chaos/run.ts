/** The chaos suite as a command. `node bench/chaos.mjs` bundles and starts this; README.md says what it shows. */
import { parseArgs } from "node:util"
import { chaos } from "./chaos.js"
import { show } from "./matrix.js"

const usage = (message: string): never => {
  console.error(`${message}
Usage: node bench/chaos.mjs [--seed 1] [--runs 1] [--streams 500] [--calls 500] [--concurrency 16]
         [--attempts 0] [--plan]`)
  process.exit(2)
}

const readOptions = () => {
  try {
    return parseArgs({
      options: {
        seed: { type: "string", default: "1" },
        runs: { type: "string", default: "1" },
        streams: { type: "string", default: "500" },
        calls: { type: "string", default: "500" },
        concurrency: { type: "string", default: "16" },
        attempts: { type: "string", default: "0" },
        plan: { type: "boolean", default: false }
      }
    }).values
  } catch (error) {
    return usage(error instanceof Error ? error.message : String(error))
  }
}

const options = readOptions()
const number = (name: "seed" | "runs" | "streams" | "calls" | "concurrency" | "attempts", least: number): number => {
  const value = Number(options[name])
  return Number.isSafeInteger(value) && value >= least
    ? value
    : usage(`--${name} must be a whole number from ${least}.`)
}
const first = number("seed", 0)
const runs = number("runs", 1)
const attempts = number("attempts", 0)
const load = { streams: number("streams", 0), calls: number("calls", 0), concurrency: number("concurrency", 1) }

for (let seed = first; seed < first + runs; seed++) {
  const report = await chaos({
    seed,
    ...load,
    attempts,
    ...(options.plan ? { onStep: (step) => console.log(step) } : {})
  })
  const { duplicated, failed, lost, matrix, other, outcomes, resumed, seconds, strikes } = report
  const wrong = outcomes.filter(({ problem }) => problem !== undefined)
  console.log(
    `seed ${seed}: ${load.streams} streams and ${load.calls} calls, ${strikes} strikes in ${seconds.toFixed(1)} s, ` +
      `${resumed} streams resumed: ${failed} failed, ${duplicated} duplicated, ${lost} lost, ${other} otherwise wrong`
  )
  console.log(`\n${show(matrix)}\n`)
  for (const { question, problem } of wrong) {
    console.log(`seed ${seed}, ${question.stream ? "stream" : "call"} ${question.id} of ${question.model}: ${problem}`)
  }
  for (const attempt of matrix.unexplained) console.log(`seed ${seed}, for no reason of the plan: ${attempt}`)
  if (wrong.length > 0) process.exitCode = 1
}
