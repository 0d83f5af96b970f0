// Three gateways with one PostgreSQL, each in a network namespace of its own, while one is killed, PostgreSQL is stopped
// and a line is cut: `node bench/replicas.mjs [--quick | --short] [--verbose]`; see README.md. Measures dist/bin.js: build it first.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { Agent, request as httpRequest } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import * as Network from "./replicas/network.mjs"
import * as Postgres from "./replicas/postgres.mjs"
import * as Upstream from "./replicas/upstream.mjs"

const root = fileURLToPath(new URL("..", import.meta.url))
const flag = (name) => process.argv.includes(`--${name}`)
/** A few seconds on one address: PostgreSQL stands still instead of being stopped, and no line is cut. */
const short = flag("short")
const quick = flag("quick") || short
/** How long a fault lasts, and how long all is well before and after it, in milliseconds. */
const outage = short ? 1_500 : quick ? 3_000 : 10_000
const calm = short ? 1_000 : quick ? 2_000 : 8_000
const perRequest = 20

const folder = mkdtempSync(join(tmpdir(), "aicortex-replicas-"))
const children = new Set()
const cleanUp = () => {
  for (const child of children) child.kill("SIGKILL")
  Network.remove()
  rmSync(folder, { recursive: true, force: true })
}
process.on("exit", cleanUp)
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1))

const hosts = ["postgres", "g1", "g2", "g3"]
const network = short ? Network.alone("a short run has none") : Network.make(hosts)
if (network.why !== undefined) console.log(`without network namespaces (${network.why}): no line is cut`)
const upstream = await Upstream.start(network.own, 30)
const postgres = await Postgres.make(network, "postgres", folder, 21_000 + (process.pid % 9_000))
children.add(postgres)

// -----------------------------------------------------------------------------
// Gateways
// -----------------------------------------------------------------------------

const rpm = quick ? 150 : 300
const config = join(folder, "config.json")
writeFileSync(
  config,
  JSON.stringify({
    servers: [{ url: `http://${network.own}:${upstream.port}/v1`, maxInFlight: 1_000 }],
    gateway: {
      keys: [
        { name: "root", key: "root-key", admin: true },
        { name: "free", key: "free-key" },
        { name: "limited", key: "limited-key", requestsPerMinute: rpm }
      ]
    }
  })
)

const startGateway = (name) =>
  new Promise((resolve, reject) => {
    const address = network.host(name)
    const args = ["dist/bin.js", "serve", "--host", address, "--port", "0", "--json", "--config", config]
    const child = network.start(name, process.execPath, args, {
      cwd: root,
      env: { PATH: process.env.PATH, HOME: join(folder, name), AICORTEX_STORE: postgres.url },
      stdio: ["ignore", "pipe", "pipe"]
    })
    children.add(child)
    let text = ""
    const gateway = { name, child, alive: true, lines: [], agent: new Agent({ keepAlive: true }) }
    child.stderr.on("data", (part) => {
      for (const line of String(part).trim().split("\n")) {
        gateway.lines.push(line)
        if (flag("verbose")) console.log(`  ${name}: ${line}`)
      }
    })
    child.stdout.on("data", (part) => {
      text += part
      const url = /http:\/\/([\d.]+):(\d+)/.exec(text)
      if (url !== null) resolve(Object.assign(gateway, { host: url[1], port: Number(url[2]) }))
    })
    child.on("exit", (code) => {
      children.delete(child)
      gateway.alive = false
      reject(new Error(`${name} ended (${code}): ${gateway.lines.join("\n")}`))
    })
  })

const gateways = await Promise.all(["g1", "g2", "g3"].map(startGateway))

const call = (gateway, method, path, key, body) =>
  new Promise((resolve, reject) => {
    const text = body === undefined ? undefined : JSON.stringify(body)
    const sent = httpRequest(
      {
        host: gateway.host,
        port: gateway.port,
        agent: gateway.agent,
        method,
        path,
        headers: {
          authorization: `Bearer ${key}`,
          ...(text === undefined ? {} : { "content-type": "application/json" })
        }
      },
      (response) => {
        const parts = []
        response.on("data", (part) => parts.push(part))
        response.on("error", reject)
        response.on("end", () => {
          const answer = Buffer.concat(parts).toString()
          try {
            resolve({
              status: response.statusCode,
              warning: response.headers["x-aicortex-warning"],
              body: answer.startsWith("{") ? JSON.parse(answer) : answer
            })
          } catch (error) {
            reject(error)
          }
        })
      }
    )
    sent.setTimeout(30_000, () => sent.destroy(new Error("no answer within 30 s")))
    sent.on("error", reject)
    sent.end(text)
  })
const ask = (gateway, key, question, more = {}) =>
  call(gateway, "POST", "/v1/chat/completions", key, {
    model: "m",
    max_tokens: 10,
    messages: [{ role: "user", content: question }],
    ...more
  })
const contentOf = ({ body }) => body?.choices?.[0]?.message?.content

// -----------------------------------------------------------------------------
// Clients
// -----------------------------------------------------------------------------

const counts = {
  answers: 0,
  elsewhere: 0,
  lost: 0,
  wrong: 0,
  turns: 0,
  foundStored: 0,
  told: 0,
  slowest: 0
}
let running = true
let chance = 1
/** One of the gateways that a client believes to be there; not the one it has just left. */
const pick = (not) => {
  const some = gateways.filter((one) => one.alive && one !== not)
  return some[chance++ % some.length]
}

/** Asks without a session, until there is an answer: at another gateway, where one breaks off. */
const plain = async (n) => {
  for (let i = 0; running; i++) {
    const question = `question ${i} of client ${n}`
    let at = pick()
    for (;;) {
      const began = performance.now()
      const answer = await ask(at, "free-key", question).catch((error) => ({ status: 0, error }))
      counts.slowest = Math.max(counts.slowest, performance.now() - began)
      if (answer.status === 200) {
        counts.answers++
        if (contentOf(answer) !== Upstream.answerTo(question)) counts.wrong++
        break
      }
      // A gateway that was killed takes the answers with it that it was giving.
      if (at.alive) {
        counts.lost++
        console.log(`  lost at ${at.name}: ${answer.status} ${JSON.stringify(answer.body ?? answer.error?.message)}`)
      } else counts.elsewhere++
      at = pick(at)
    }
    await sleep(20)
  }
}

const sessions = []
/** A conversation whose turns go to any gateway. A turn whose end is not known is looked for before it is said again. */
const converse = async (n) => {
  const created = await call(pick(), "POST", "/v1/sessions", "free-key", {})
  const session = { id: created.body.id, acknowledged: [] }
  sessions.push(session)
  for (let i = 0; running; i++) {
    const question = `turn ${i} of conversation ${n}`
    let at = pick()
    for (;;) {
      const answer = await ask(at, "free-key", question, { session: session.id }).catch(() => ({ status: 0 }))
      if (answer.status === 200 && contentOf(answer) !== Upstream.answerTo(question)) counts.wrong++
      // An answer whose turn could not be stored says so.
      if (answer.status === 200 && answer.warning === undefined) break
      counts.told++
      at = pick(at)
      let stored
      for (;;) {
        stored = await call(at, "GET", `/v1/sessions/${session.id}`, "free-key").catch(() => ({ status: 0 }))
        if (stored.status === 200) break
        await sleep(200)
        at = pick(at)
      }
      if (stored.body.messages.some(({ content }) => content === question)) {
        counts.foundStored++
        break
      }
    }
    session.acknowledged.push(question)
    counts.turns++
    await sleep(20)
  }
}

const limited = { admitted: 0, refused: 0, unknown: 0, began: 0, underWay: 0, paused: false }
const hammer = async (gateway, pause) => {
  while (running && gateway.alive) {
    if (limited.paused) {
      await sleep(10)
      continue
    }
    limited.underWay++
    const answer = await ask(gateway, "limited-key", "x").catch(() => ({ status: 0 }))
    limited.underWay--
    if (answer.status === 200) limited.admitted++
    else if (answer.status === 429) limited.refused++
    else limited.unknown++
    await sleep(answer.status === 200 ? pause : Math.max(pause, 5))
  }
}
const allowed = () => rpm + ((performance.now() - limited.began) / 60_000) * rpm

/** Uses a quota up at all gateways, one request at a time at each. */
const useUp = async (name, quota, until) => {
  const { body } = await call(gateways[0], "POST", "/keys", "root-key", { name, tokens_per_day: quota })
  await sleep(600)
  let used = 0
  let unknown = 0
  let denied = 0
  const at = async (gateway) => {
    while (gateway.alive && !until.done) {
      const answer = await ask(gateway, body.key, "x").catch(() => ({ status: 0 }))
      if (answer.status === 200) used += answer.body.usage.total_tokens
      else if (answer.status === 0) unknown += perRequest
      else denied++
      await sleep(answer.status === 200 ? 40 : 200)
    }
  }
  await Promise.all(gateways.filter(({ alive }) => alive).map(at))
  return { name, quota, used, unknown, denied, over: used - quota }
}

// -----------------------------------------------------------------------------
// What happens
// -----------------------------------------------------------------------------

const clients = [
  ...Array.from({ length: short ? 2 : 8 }, (_, n) => plain(n)),
  ...Array.from({ length: short ? 2 : 6 }, (_, n) => converse(n))
]
const results = []
const check = (what, figure, holds) => {
  results.push({ what, figure, holds })
  console.log(`${holds ? "ok  " : "FAIL"} ${what}: ${figure}`)
}

// The limit alone: asked for more than there is, at all gateways.
limited.began = performance.now()
const flood = gateways.flatMap((gateway) => Array.from({ length: 4 }, () => hammer(gateway, 0)))
for (const until = performance.now() + 60_000; performance.now() < until; ) {
  await sleep(250)
  if (limited.refused > rpm / 5) break
}
{
  // What was admitted is known at the end.
  limited.paused = true
  const most = allowed()
  while (limited.underWay > 0) await sleep(10)
  limited.paused = false
  const error = (limited.admitted - most) / most
  const words = `${limited.admitted} of ${most.toFixed(1)} admitted, ${limited.refused} refused, ${limited.unknown} without an answer (${(error * 100).toFixed(2)} %)`
  check(
    "a limit per minute over three gateways, within 1 % and a request of each",
    words,
    limited.admitted <= most * 1.01 + 3 && limited.admitted >= most * 0.99 - 3
  )
}

const fault = async (what, name, during) => {
  console.log(`-- ${what}`)
  const until = { done: false }
  const quota = short ? 240 : quick ? 600 : 1_000
  const using = useUp(name, quota, until)
  await sleep(calm / 2)
  await during()
  await sleep(calm)
  until.done = true
  const { denied, over, unknown, used } = await using
  const words = `${used} of ${quota} tokens (${over > 0 ? "+" : ""}${over}), ${unknown} at a gateway that was killed, ${denied} refused`
  check(`a quota, within one request of each gateway (${name})`, words, over <= 3 * perRequest)
}

await fault("one gateway is killed", "kill", async () => {
  const victim = gateways[2]
  victim.alive = false
  victim.child.kill("SIGKILL")
  await sleep(outage / 2)
  gateways[2] = await startGateway("g3")
  flood.push(hammer(gateways[2], 0))
})
if (short) {
  await fault(`PostgreSQL stands still for ${outage / 1_000} s`, "pause", async () => {
    postgres.pause()
    await sleep(outage)
    postgres.resume()
  })
} else {
  await fault(`PostgreSQL is stopped for ${outage / 1_000} s`, "stop", async () => {
    await postgres.stop()
    await sleep(outage)
    await postgres.start()
  })
}
if (network.cut !== undefined) {
  await fault(`the line from PostgreSQL to one gateway is cut for ${outage / 1_000} s`, "cut", async () => {
    const mend = network.cut("postgres", "g2")
    await sleep(outage)
    mend()
    await sleep(calm)
  })
}

running = false
const most = allowed()
await Promise.all([...clients, ...flood])

// -----------------------------------------------------------------------------
// What is left
// -----------------------------------------------------------------------------

let lostTurns = 0
let doubledTurns = 0
let disorder = 0
for (const { acknowledged, id } of sessions) {
  const { body } = await call(pick(), "GET", `/v1/sessions/${id}`, "free-key")
  const said = body.messages.filter(({ role }) => role === "user").map(({ content }) => content)
  const answers = body.messages.filter(({ role }) => role === "assistant").map(({ content }) => content)
  for (const question of acknowledged) {
    const times = said.filter((one) => one === question).length
    if (times === 0) lostTurns++
    if (times > 1) doubledTurns++
  }
  if (said.join("\n") !== acknowledged.join("\n")) disorder++
  if (answers.join("\n") !== said.map(Upstream.answerTo).join("\n")) disorder++
}
check(
  "answers lost",
  `${counts.lost} of ${counts.answers} (${counts.elsewhere} were asked again elsewhere, of the gateway that was killed)`,
  counts.lost === 0
)
check("answers that are wrong or doubled", counts.wrong, counts.wrong === 0)
check(
  "turns lost",
  `${lostTurns} of ${counts.turns} (${counts.told} requests were told that the store is away or broke off, ${counts.foundStored} of them were stored)`,
  lostTurns === 0
)
check("turns doubled", doubledTurns, doubledTurns === 0)
check("conversations out of order", `${disorder} of ${sessions.length}`, disorder === 0)
check(
  "the limit over all that time, never more than allowed",
  `${limited.admitted} of ${most.toFixed(0)}`,
  limited.admitted <= most * 1.01 + 3
)
console.log(`slowest answer without a session: ${counts.slowest.toFixed(0)} ms`)
for (const gateway of gateways)
  console.log(`${gateway.name}: ${gateway.lines.filter((line) => /store/.test(line)).length} lines about the store`)

for (const gateway of gateways) gateway.child.kill("SIGTERM")
await postgres.stop()
upstream.server.close()
upstream.server.closeAllConnections()
process.exit(results.every(({ holds }) => holds) ? 0 : 1)
