/** Streams and calls over a fleet whose servers break and come back all the time; nothing may be noticed. */
import { setTimeout as sleep } from "node:timers/promises"
import type { Attempt } from "../../src/Errors.js"
import * as Prng from "../../src/internal/prng.js"
import { type ChatOptions, type Cortex, createCortex } from "../../src/promise.js"
import { type Matrix, matrixOf } from "./matrix.js"
import { describe, plan } from "./plan.js"
import { expectedOf, promptOf, type Question, tokensOf } from "./questions.js"
import { models, startFleet } from "./servers.js"

export interface Options {
  readonly seed: number
  readonly streams: number
  readonly calls: number
  /** So many requests at a time. */
  readonly concurrency: number
  /** Attempts that a request may make in all; as the library has it by default, if 0 or left out. */
  readonly attempts?: number
  /** Told what befalls the servers. */
  readonly onStep?: (step: string) => void
}

/** What became of one request; `problem` says what is wrong with it. */
export interface Outcome {
  readonly question: Question
  readonly problem: string | undefined
  readonly attempts: ReadonlyArray<Attempt>
}

export interface Report {
  readonly seed: number
  readonly outcomes: ReadonlyArray<Outcome>
  /** Requests that failed; that said something twice; that lost something; that said something else. */
  readonly failed: number
  readonly duplicated: number
  readonly lost: number
  readonly other: number
  readonly strikes: number
  readonly resumed: number
  readonly matrix: Matrix
  readonly seconds: number
}

const demoPrompts = [
  "Tell me a short story about a robot.",
  "Explain recursion.",
  "Write a haiku about the sea.",
  "What is Docker?",
  "Tell me a poem."
]

const questionsOf = ({ calls, seed, streams }: Options): ReadonlyArray<Question> => {
  const random = Prng.make(seed ^ 0x5eed)
  const kinds = [...Array(streams).fill(true), ...Array(calls).fill(false)]
  for (let i = kinds.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1))
    ;[kinds[i], kinds[j]] = [kinds[j], kinds[i]]
  }
  return kinds.map((stream, id) => {
    const draw = random()
    const model = draw < 0.5 ? models.wide : draw < 0.85 ? models.narrow : models.real
    const real = model === models.real
    const limited = !real && random() < 0.2
    const stopped = !real && !limited && id % 4 === 0
    return {
      id,
      model,
      prompt: real ? (demoPrompts[Math.floor(random() * demoPrompts.length)] ?? "") : promptOf(id),
      maxTokens: limited ? 5 + Math.floor(random() * 20) : undefined,
      stop: stopped ? " word17" : undefined,
      stream
    }
  })
}

const asTokens = ({ id, maxTokens, model, stop }: Question): ChatOptions => ({
  model,
  temperature: 0,
  seed: id,
  ...(maxTokens === undefined ? {} : { maxTokens }),
  ...(stop === undefined ? {} : { stop })
})

/**
 * A silence of `timeout` is longer than any work here, and shorter than most stalls. Each server may break and be back
 * while a call goes on, so that it may have to be asked more than once.
 */
const limits = { timeout: 400, retryBackoff: 20 } as const

const attemptsOf = (error: unknown): ReadonlyArray<Attempt> =>
  typeof error === "object" && error !== null && "attempts" in error ? (error.attempts as ReadonlyArray<Attempt>) : []

/** Tells a text from the expected one in the words of the report. */
const compare = (text: string, expected: string): string | undefined => {
  if (text === expected) return undefined
  const what =
    expected.startsWith(text) || expected.endsWith(text)
      ? "lost"
      : text.length > expected.length
        ? "duplicated"
        : "other"
  return `${what}: ${JSON.stringify(text)} instead of ${JSON.stringify(expected)}`
}

const ask = async (
  cortex: Cortex,
  attemptsInAll: number,
  question: Question,
  expected: string,
  tokens: number | undefined
): Promise<Outcome> => {
  const options = { ...asTokens(question), ...limits, ...(attemptsInAll === 0 ? {} : { maxRetries: attemptsInAll }) }
  const { prompt } = question
  const attempts: Array<Attempt> = []
  try {
    if (!question.stream) {
      const answer = await cortex.complete(prompt, options)
      return { question, problem: compare(answer.text, expected), attempts: answer.attempts }
    }
    let text = ""
    let next = 0
    let ends = 0
    let problem: string | undefined
    for await (const event of await cortex.chat(prompt, { ...options, stream: true })) {
      if (event.type === "token") {
        if (event.index !== next++) problem ??= `other: index ${event.index} instead of ${next - 1}`
        text += event.content
      } else if (event.type === "error") attempts.push(event.attempt)
      else if (event.type === "restart") problem ??= "other: it was begun anew"
      else if (event.type === "end") {
        ends++
        const counted = event.usage.completionTokens
        if (tokens !== undefined && counted !== tokens)
          problem ??= `other: ${counted} tokens counted instead of ${tokens}`
      }
    }
    if (ends !== 1) problem ??= `lost: ${ends} ends`
    return { question, problem: compare(text, expected) ?? problem, attempts }
  } catch (error) {
    const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error)
    const failed = attemptsOf(error)
    return { question, problem: `failed: ${message}`, attempts: failed.length > attempts.length ? failed : attempts }
  }
}

/** One run. Same seed, same questions and same plan; how far the plan gets, real time decides. */
export const chaos = async (options: Options): Promise<Report> => {
  const fleet = await startFleet()
  const { targets } = fleet
  const cortex = createCortex({
    servers: targets.map(({ process, protocol, url }) => ({
      url,
      ...(protocol === undefined ? {} : { protocol }),
      // The demo model answers one after another.
      ...(process ? { maxInFlight: 2 } : {})
    })),
    configFile: false,
    serverCooldown: 300
  })
  const over = new AbortController()
  let fail: (error: unknown) => void = () => {}
  const broken = new Promise<never>((_, reject) => {
    fail = reject
  })
  let striking: Promise<void> = Promise.resolve()
  try {
    await cortex.listServers()
    const unbroken = new Map<string, string>()
    for (const prompt of demoPrompts)
      unbroken.set(prompt, await cortex.chat(prompt, { model: models.real, temperature: 0 }))

    const questions = questionsOf(options)
    const outcomes: Array<Outcome> = []
    let strikes = 0
    const strike = async () => {
      /** What was restored, and may not be back yet: meanwhile its equals are left alone. */
      const returning = new Map<string, Promise<void>>()
      for (const step of plan(options.seed, targets)) {
        await sleep(step.after)
        if (over.signal.aborted) break
        const target = targets[step.server]
        if (target === undefined) continue
        await Promise.all(target.models.map((model) => returning.get(model)))
        options.onStep?.(describe(step, targets))
        if (step.strike !== undefined) strikes++
        const done = target.strike(step.strike)
        for (const model of target.models) returning.set(model, done)
        done.catch(fail)
      }
      await Promise.all(returning.values())
    }
    const began = performance.now()
    striking = strike()
    striking.catch(fail)
    let next = 0
    const worker = async () => {
      for (let question = questions[next++]; question !== undefined; question = questions[next++]) {
        const { id, model, prompt, stop } = question
        const tokens = model === models.real ? undefined : tokensOf(id)
        const expected = tokens === undefined ? (unbroken.get(prompt) ?? "") : expectedOf(tokens, question)
        const counted =
          tokens === undefined || stop !== undefined
            ? undefined
            : Math.min(tokens.length, question.maxTokens ?? tokens.length)
        outcomes.push(await ask(cortex, options.attempts ?? 0, question, expected, counted))
      }
    }
    await Promise.race([broken, Promise.all(Array.from({ length: options.concurrency }, worker))])
    const seconds = (performance.now() - began) / 1000
    over.abort()
    await striking
    const of = (what: string) => outcomes.filter(({ problem }) => problem?.startsWith(what)).length
    return {
      seed: options.seed,
      outcomes,
      failed: of("failed"),
      duplicated: of("duplicated"),
      lost: of("lost"),
      other: of("other"),
      strikes,
      resumed: outcomes.filter(
        ({ attempts, question }) => question.stream && attempts.some(({ phase }) => phase === "stream")
      ).length,
      matrix: matrixOf(fleet.hits, outcomes, new Set(targets.flatMap(({ process, url }) => (process ? [url] : [])))),
      seconds
    }
  } finally {
    over.abort()
    await striking.catch(() => {})
    await cortex.close()
    await fleet.close()
  }
}
