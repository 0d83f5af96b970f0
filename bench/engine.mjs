// The engine (`aicortex engine`, a process of its own) next to node-llama-cpp used directly in one process:
// `node bench/engine.mjs [--rounds N] [--quick] [--strict] [--json FILE] [--model FILE]`; see README.md. Measures
// dist/bin.js: build it first.
import { spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { request } from "node:http"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { getLlama, LlamaLogLevel } from "node-llama-cpp"

const root = fileURLToPath(new URL("..", import.meta.url))
const args = process.argv.slice(2)
const flag = (name) => args.includes(`--${name}`)
const option = (name, otherwise) => {
  const at = args.indexOf(`--${name}`)
  return at === -1 ? otherwise : (args[at + 1] ?? otherwise)
}
const quick = flag("quick")
const rounds = Number(option("rounds", quick ? "2" : "9"))
const starts = quick ? 1 : 5
const modelPath = option("model", join(root, "registry/demo/aicortex-demo.gguf"))
const bin = join(root, "dist/bin.js")
if (!existsSync(bin)) throw new Error("build it first: npm run build")

const contextSize = 512
const parallel = 4
const threads = 1
const maxTokens = 200
/** It forbids the end of an answer, so that everyone writes the same number of tokens. */
const endless = { type: "array", items: { type: "string", minLength: 1000 }, minItems: 9 }
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
const spread = (values) => `${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)}`

// -----------------------------------------------------------------------------
// the engine
// -----------------------------------------------------------------------------

/** A started engine, and how long it took until it listened and until it was ready, in milliseconds. */
const startEngine = async () => {
  const began = performance.now()
  const words = [bin, "engine", modelPath, "--port", "0", "--name", "m", "--ctx", String(contextSize)]
  const child = spawn(process.execPath, [...words, "--threads", String(threads), "--parallel", String(parallel)], {
    stdio: ["ignore", "pipe", "inherit"]
  })
  process.on("exit", () => child.kill("SIGKILL"))
  const [line] = await once(createInterface({ input: child.stdout }), "line")
  const listening = performance.now() - began
  const { url } = JSON.parse(line)
  while ((await fetch(`${url}/health`)).status !== 200) await new Promise((resolve) => setTimeout(resolve, 5))
  return { child, url, listening, ready: performance.now() - began }
}

/** One streamed chat: its tokens, the time to its first one and in all, and the tokens that were cached. */
const chat = (url, messages, format) =>
  new Promise((resolve, reject) => {
    const began = performance.now()
    let first = 0
    let tail = ""
    const body = JSON.stringify({
      model: "m",
      messages,
      temperature: 0,
      max_tokens: maxTokens,
      stream: true,
      stream_options: { include_usage: true },
      ...(format === undefined
        ? {}
        : { response_format: { type: "json_schema", json_schema: { name: "s", schema: format } } })
    })
    const sent = request(
      `${url}/v1/chat/completions`,
      { method: "POST", headers: { "content-type": "application/json" } },
      (response) => {
        response.setEncoding("utf8")
        response.on("data", (text) => {
          if (first === 0 && text.includes('"content":"') && !/"content":""/.test(text)) first = performance.now()
          tail = (tail + text).slice(-2000)
        })
        response.on("end", () => {
          const usage = /"usage":(\{.*?\})\s*\}?\s*\n/s.exec(tail)?.[1]
          const tokens = Number(/"completion_tokens":(\d+)/.exec(tail)?.[1] ?? Number.NaN)
          const cached = Number(/"cached_tokens":(\d+)/.exec(tail)?.[1] ?? 0)
          if (!Number.isFinite(tokens)) reject(new Error(`no usage in ${usage ?? tail}`))
          else resolve({ tokens, cached, first: first - began, time: performance.now() - began })
        })
      }
    )
    sent.on("error", reject)
    sent.end(body)
  })

// -----------------------------------------------------------------------------
// node-llama-cpp directly
// -----------------------------------------------------------------------------

const loadBegan = performance.now()
const llama = await getLlama({ gpu: false, build: "never", progressLogs: false, logLevel: LlamaLogLevel.disabled })
const model = await llama.loadModel({ modelPath })
const context = await model.createContext({ contextSize, sequences: parallel, threads })
const load = performance.now() - loadBegan
const sequences = Array.from({ length: parallel }, () => context.getSequence())
const { LlamaGrammarEvaluationState } = await import("node-llama-cpp")
const grammar = await llama.createGrammarForJsonSchema(endless)

const promptOf = (messages) => {
  const text = messages.map(({ content, role }) => `<|im_start|>${role}\n${content}<|im_end|>\n`).join("")
  const tokens = model.tokenize(`${text}<|im_start|>assistant\n`, true)
  return model.tokens.bos === null ? tokens : [model.tokens.bos, ...tokens]
}

const direct = async (sequence, messages, format) => {
  const began = performance.now()
  let first = 0
  let tokens = 0
  let text = ""
  await sequence.clearHistory()
  const state =
    format === undefined ? {} : { grammarEvaluationState: new LlamaGrammarEvaluationState({ model, grammar }) }
  for await (const token of sequence.evaluate(promptOf(messages), { temperature: 0, topP: 1, topK: 40, ...state })) {
    if (first === 0) first = performance.now()
    text += model.detokenize([token])
    if (++tokens >= maxTokens) break
  }
  return { tokens, text, first: first - began, time: performance.now() - began }
}

// -----------------------------------------------------------------------------
// measuring
// -----------------------------------------------------------------------------

const engine = await startEngine()
const question = (i) => [{ role: "user", content: `Tell me a short story about robot number ${i}.` }]
/** Tokens per second of `n` chats at the same time, three times. */
const rate = async (n, one) => {
  const began = performance.now()
  const all = []
  for (let i = 0; i < 3; i++) all.push(...(await Promise.all(Array.from({ length: n }, (_, i) => one(i)))))
  return all.reduce((sum, { tokens }) => sum + tokens, 0) / ((performance.now() - began) / 1000)
}
const ways = {
  engine: (i) => chat(engine.url, question(i), endless),
  direct: (i) => direct(sequences[i], question(i), endless)
}

/** Processor time of a process in milliseconds, in ticks of 10. Linux only. */
const cpuOf = (pid) => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
    return (Number(fields[11]) + Number(fields[12])) * 10
  } catch {
    return Number.NaN
  }
}
const cpu = { 1: { engine: 0, direct: 0 }, 4: { engine: 0, direct: 0 } }
const pids = { engine: engine.child.pid, direct: process.pid }

const found = { 1: { engine: [], direct: [], ratio: [] }, 4: { engine: [], direct: [], ratio: [] } }
for (let round = -1; round < rounds; round++) {
  for (const n of [1, 4]) {
    const order = round % 2 === 0 ? ["engine", "direct"] : ["direct", "engine"]
    const measured = {}
    for (const way of order) {
      const before = cpuOf(pids[way])
      measured[way] = await rate(n, ways[way])
      if (round >= 0) cpu[n][way] += cpuOf(pids[way]) - before
    }
    if (round < 0) continue
    for (const way of order) found[n][way].push(measured[way])
    found[n].ratio.push(measured.engine / measured.direct)
  }
}

const turns = { first: [], second: [], cached: [] }
for (let round = 0; round < rounds; round++) {
  const before = [{ role: "user", content: `${round} ${"The robot went to the river and back. ".repeat(24)}` }]
  const one = await chat(engine.url, before)
  const next = [...before, { role: "assistant", content: "Yes." }, { role: "user", content: "Why?" }]
  const two = await chat(engine.url, next)
  turns.first.push(one.first)
  turns.second.push(two.first)
  turns.cached.push(two.cached)
}
engine.child.kill()

const bare = []
const startTimes = { listening: [], ready: [], beyond: [] }
const importing = []
const run = async (words) => {
  const began = performance.now()
  const child = spawn(process.execPath, words, { stdio: "ignore", cwd: root })
  await once(child, "exit")
  return performance.now() - began
}
const loading = `const l = await import("node-llama-cpp");
const x = await l.getLlama({ gpu: false, build: "never", progressLogs: false, logLevel: l.LlamaLogLevel.disabled });
const m = await x.loadModel({ modelPath: ${JSON.stringify(modelPath)} });
await m.createContext({ contextSize: ${contextSize}, sequences: ${parallel}, threads: ${threads} });
process.exit()`
for (let i = 0; i < starts; i++) {
  const node = await run(["-e", "0"])
  bare.push(node)
  const alone = await run(["--input-type=module", "-e", loading])
  importing.push(alone)
  const { child, listening, ready } = await startEngine()
  child.kill()
  startTimes.listening.push(listening)
  startTimes.ready.push(ready)
  // The load is what a program of nothing else needs, beyond its own start.
  startTimes.beyond.push((ready - (alone - node)) / node)
}
await llama.dispose()

// -----------------------------------------------------------------------------
// report
// -----------------------------------------------------------------------------

const row = (n) =>
  `${n} chat${n === 1 ? " " : "s"}  engine ${median(found[n].engine).toFixed(0)} tokens/s  direct ${median(found[n].direct).toFixed(0)}  ratio ${median(found[n].ratio).toFixed(2)} (${spread(found[n].ratio)}); CPU engine / direct ${(cpu[n].engine / cpu[n].direct).toFixed(2)}`
const targets = [
  ["1 chat, engine / direct", median(found[1].ratio), ">= 0.9", median(found[1].ratio) >= 0.9],
  ["4 chats, engine / direct", median(found[4].ratio), ">= 0.9", median(found[4].ratio) >= 0.9],
  [
    "second turn, first token / that of the first turn",
    median(turns.second) / median(turns.first),
    "<= 0.6",
    median(turns.second) / median(turns.first) <= 0.6
  ],
  ["start beyond the load / node -e 0", median(startTimes.beyond), "<= 3", median(startTimes.beyond) <= 3]
]
const megabytes = (statSync(modelPath).size / 1e6).toFixed(1)
process.stdout.write(
  [
    `model ${modelPath} (${megabytes} MB), ${threads} thread, ${parallel} sequences of ${contextSize} tokens, ${rounds} rounds`,
    row(1),
    row(4),
    `time to first token: first turn ${median(turns.first).toFixed(0)} ms, second turn ${median(turns.second).toFixed(0)} ms with ${median(turns.cached)} tokens from the cache`,
    `start: node -e 0 ${median(bare).toFixed(0)} ms, the library and the model alone ${median(importing).toFixed(0)} ms, engine listens after ${median(startTimes.listening).toFixed(0)} ms and is ready after ${median(startTimes.ready).toFixed(0)} ms`,
    `load in this process ${load.toFixed(0)} ms`,
    "",
    ...targets.map(([what, value, target, ok]) => `${ok ? "ok  " : "MISS"}  ${what}: ${value.toFixed(2)} (${target})`),
    ""
  ].join("\n")
)
const json = option("json", undefined)
if (json !== undefined)
  writeFileSync(json, `${JSON.stringify({ found, turns, bare, importing, startTimes }, undefined, 2)}\n`)
if (flag("strict") && targets.some(([, , , ok]) => !ok)) process.exitCode = 1
process.exit()
