// The engine (`aicortex engine`, a process of its own) next to node-llama-cpp used directly in one process, and to
// `llama-server` where it is on PATH:
// `node bench/engine.mjs [--rounds N] [--quick] [--strict] [--json FILE] [--model FILE]`; see README.md. Measures
// dist/bin.js: build it first.
import { spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { request } from "node:http"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
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
const startEngine = async (context = contextSize) => {
  const began = performance.now()
  const words = [bin, "engine", modelPath, "--port", "0", "--name", "m", "--ctx", String(context)]
  const child = spawn(process.execPath, [...words, "--threads", String(threads), "--parallel", String(parallel)], {
    stdio: ["ignore", "pipe", "inherit"]
  })
  process.on("exit", () => child.kill("SIGKILL"))
  const lines = createInterface({ input: child.stdout })
  // Both lines may come at once.
  const each = lines[Symbol.asyncIterator]()
  const next = async () => (await each.next()).value
  const line = await next()
  const listening = performance.now() - began
  await next()
  return { child, url: JSON.parse(line).url, listening, ready: performance.now() - began }
}

const freePort = async () => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address()
  server.close()
  return port
}

/** The same with `llama-server`; `undefined` where it is not installed. */
const startLlamaServer = async () => {
  const folders = (process.env.PATH ?? "").split(delimiter)
  const program = folders.map((folder) => join(folder, "llama-server")).find((path) => existsSync(path))
  if (program === undefined) return undefined
  const port = await freePort()
  const words = ["-m", modelPath, "--host", "127.0.0.1", "--port", String(port), "-a", "m", "--jinja"]
  const sizes = ["-c", String(contextSize * parallel), "-np", String(parallel), "-t", String(threads), "-ngl", "0"]
  const child = spawn(program, [...words, ...sizes], { stdio: "ignore" })
  process.on("exit", () => child.kill("SIGKILL"))
  const url = `http://127.0.0.1:${port}`
  while (child.exitCode === null) {
    const ready = await fetch(`${url}/health`).then(
      ({ status }) => status === 200,
      () => false
    )
    if (ready) return { child, url }
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error(`llama-server ended with ${child.exitCode}`)
}

/** One streamed chat: its text, its tokens, the time to the first one, and how much of its prompt was cached. */
const chat = (url, messages, format) =>
  new Promise((resolve, reject) => {
    const began = performance.now()
    let first = 0
    let tail = ""
    let answer = ""
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
          for (const [, piece] of text.matchAll(/"content":("(?:[^"\\]|\\.)*")/g)) answer += JSON.parse(piece)
          if (first === 0 && text.includes('"content":"') && !/"content":""/.test(text)) first = performance.now()
          tail = (tail + text).slice(-2000)
        })
        response.on("end", () => {
          const usage = /"usage":(\{.*?\})\s*\}?\s*\n/s.exec(tail)?.[1]
          const tokens = Number(/"completion_tokens":(\d+)/.exec(tail)?.[1] ?? Number.NaN)
          const prompt = Number(/"prompt_tokens":(\d+)/.exec(tail)?.[1] ?? Number.NaN)
          const cached = Number(/"cached_tokens":(\d+)/.exec(tail)?.[1] ?? 0)
          if (!Number.isFinite(tokens)) reject(new Error(`no usage in ${usage ?? tail}`))
          else resolve({ tokens, prompt, cached, text: answer, first: first - began })
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
const readBegan = performance.now()
const model = await llama.loadModel({ modelPath })
// As the engine does it with a model of this size.
const attention = statSync(modelPath).size < 64 * 1024 * 1024 ? { flashAttention: false } : {}
const context = await model.createContext({ contextSize, sequences: parallel, threads, ...attention })
const load = performance.now() - loadBegan
const reading = performance.now() - readBegan
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
const server = await startLlamaServer()
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
  direct: (i) => direct(sequences[i], question(i), endless),
  ...(server === undefined ? {} : { server: (i) => chat(server.url, question(i), endless) })
}
const names = Object.keys(ways)

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
const zero = () => Object.fromEntries(names.map((way) => [way, 0]))
const cpu = { 1: zero(), 4: zero() }
const pids = { engine: engine.child.pid, direct: process.pid, server: server?.child.pid }

const empty = () => ({ ...Object.fromEntries(names.map((way) => [way, []])), ratio: [], toServer: [] })
const found = { 1: empty(), 4: empty() }
for (let round = -1; round < rounds; round++) {
  for (const n of [1, 4]) {
    const measured = {}
    for (const way of round % 2 === 0 ? names : [...names].reverse()) {
      const before = cpuOf(pids[way])
      measured[way] = await rate(n, ways[way])
      if (round >= 0) cpu[n][way] += cpuOf(pids[way]) - before
    }
    if (round < 0) continue
    for (const way of names) found[n][way].push(measured[way])
    found[n].ratio.push(measured.engine / measured.direct)
    if (server !== undefined) found[n].toServer.push(measured.engine / measured.server)
  }
}
engine.child.kill()
server?.child.kill()

/** First tokens of conversations and of their next turns. */
const turnsOf = async (sentences) => {
  const measured = { tokens: [], first: [], second: [], cached: [], evaluated: [] }
  const { child, url } = await startEngine(4096)
  for (let round = -1; round < rounds; round++) {
    const before = [{ role: "user", content: `${round} ${"The robot went to the river and back. ".repeat(sentences)}` }]
    const one = await chat(url, before)
    const answered = [...before, { role: "assistant", content: one.text }]
    const two = await chat(url, [...answered, { role: "user", content: "Why?" }])
    if (round < 0) continue
    measured.tokens.push(one.prompt)
    measured.first.push(one.first)
    measured.second.push(two.first)
    measured.cached.push(two.cached)
    measured.evaluated.push(two.prompt - two.cached)
  }
  child.kill()
  return measured
}
const turns = { short: await turnsOf(24), long: await turnsOf(quick ? 60 : 180) }

const bare = []
const startTimes = { listening: [], ready: [], beyond: [], run: [], runBeyond: [] }
const importing = []
const home = mkdtempSync(join(tmpdir(), "aicortex-bench-engine-"))
const env = { ...process.env, HOME: home, XDG_CONFIG_HOME: home, XDG_STATE_HOME: join(home, "state") }
const run = async (words) => {
  const began = performance.now()
  const child = spawn(process.execPath, words, { stdio: "ignore", cwd: root, env })
  const [code] = await once(child, "exit")
  if (code !== 0) throw new Error(`${words.join(" ")} ended with ${code}`)
  return performance.now() - began
}
const loading = [join(root, "bench/engine/load.mjs"), modelPath, contextSize, parallel, threads].map(String)
try {
  for (let i = 0; i < starts; i++) {
    const node = await run(["-e", "0"])
    bare.push(node)
    // The load is what a program of nothing else needs, beyond its own start.
    const alone = await run(loading)
    importing.push(alone)
    const { child, listening, ready } = await startEngine()
    child.kill()
    startTimes.listening.push(listening)
    startTimes.ready.push(ready)
    startTimes.beyond.push((ready - (alone - node)) / node)
    const whole = await run([bin, "run", "-d", modelPath, "--port", "0", "--ctx", String(contextSize)])
    startTimes.run.push(whole)
    startTimes.runBeyond.push((whole - (alone - node)) / node)
    await run([bin, "stop", "--all"])
  }
} finally {
  rmSync(home, { recursive: true, force: true })
}
await llama.dispose()

// -----------------------------------------------------------------------------
// report
// -----------------------------------------------------------------------------

const row = (n) =>
  `${n} chat${n === 1 ? " " : "s"}  engine ${median(found[n].engine).toFixed(0)} tokens/s  direct ${median(found[n].direct).toFixed(0)}  ratio ${median(found[n].ratio).toFixed(2)} (${spread(found[n].ratio)}); CPU engine / direct ${(cpu[n].engine / cpu[n].direct).toFixed(2)}`
const share = ({ first, second }) => median(second) / median(first)
const targets = [
  ["1 chat, engine / direct", median(found[1].ratio), ">= 0.9", median(found[1].ratio) >= 0.9],
  ["4 chats, engine / direct", median(found[4].ratio), ">= 0.9", median(found[4].ratio) >= 0.9],
  ["second turn / first turn, first token", share(turns.short), "<= 0.6", share(turns.short) <= 0.6],
  ["the same, long conversation", share(turns.long), "<= 0.3", share(turns.long) <= 0.3],
  ["engine: start beyond the load / node -e 0", median(startTimes.beyond), "<= 3", median(startTimes.beyond) <= 3],
  ["run -d: start beyond the load / node -e 0", median(startTimes.runBeyond), "<= 3", median(startTimes.runBeyond) <= 3]
]
const turn = ({ cached, evaluated, first, second, tokens }) =>
  `first token after ${median(tokens)} tokens ${median(first).toFixed(0)} ms; next turn, ${median(cached)} tokens from the cache and ${median(evaluated)} new ones, ${median(second).toFixed(0)} ms`
const beside = (n) =>
  server === undefined
    ? []
    : [
        `         llama-server ${median(found[n].server).toFixed(0)} tokens/s, engine / llama-server ${median(found[n].toServer).toFixed(2)}`
      ]
const megabytes = (statSync(modelPath).size / 1e6).toFixed(1)
process.stdout.write(
  [
    `model ${modelPath} (${megabytes} MB), ${threads} thread, ${parallel} sequences of ${contextSize} tokens, ${rounds} rounds`,
    ...[1, 4].flatMap((n) => [row(n), ...beside(n)]),
    ...(server === undefined ? ["llama-server is not on PATH"] : []),
    turn(turns.short),
    turn(turns.long),
    `start: node -e 0 ${median(bare).toFixed(0)} ms, the library and the model alone ${median(importing).toFixed(0)} ms, engine listens after ${median(startTimes.listening).toFixed(0)} ms and is ready after ${median(startTimes.ready).toFixed(0)} ms; run -d ${median(startTimes.run).toFixed(0)} ms`,
    `load in this process ${load.toFixed(0)} ms, of it the model alone ${reading.toFixed(0)} ms: run -d beyond that alone / node -e 0 ${((median(startTimes.run) - reading) / median(bare)).toFixed(1)}`,
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
