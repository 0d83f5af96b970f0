/** Every metric that the Grafana board asks for is exposed by the gateway, with the labels that it asks for. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, it } from "vitest"
import { root } from "../support/docs/pages.js"
import { startFakeOllama } from "../support/fakeServer.js"
import { startGateway } from "../support/gateway.js"

interface Panel {
  readonly title: string
  readonly type: string
  readonly targets?: ReadonlyArray<{ readonly expr: string; readonly legendFormat: string }>
}

const { panels }: { readonly panels: ReadonlyArray<Panel> } = JSON.parse(
  readFileSync(join(root, "docs/assets/grafana.json"), "utf8")
)
const expressions = panels.flatMap(({ targets = [], title }) => targets.map((target) => ({ title, ...target })))

const metricsIn = (expr: string) => [...new Set(expr.match(/\b(?:aicortex|gen_ai|process)_\w+/g) ?? [])]
/** Without labels: `gen_ai_request_model` is one, and no metric. */
const withoutLabels = (expr: string) => expr.replace(/\{[^}]*\}/g, "").replace(/\bby \([^)]*\)/g, "")
const labelsIn = ({ expr, legendFormat }: { readonly expr: string; readonly legendFormat: string }) => [
  ...[...expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, names = ""]) => names.split(/,\s*/)),
  ...[...expr.matchAll(/\{([^}]*)\}/g)].flatMap(([, inner = ""]) => inner.match(/\w+(?==|!=|=~)/g) ?? []),
  ...[...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, name = ""]) => name)
]

/** What Prometheus itself adds to each sample. */
const added = ["job", "instance"]

const body = (model: string, more: object = {}) => ({ model, messages: [{ role: "user", content: "Hello!" }], ...more })

it("queries only metrics that the gateway exposes", async () => {
  await using breaking = await startFakeOllama({
    models: ["m"],
    faults: (n) => (n === 0 ? { kind: "cut", after: 4 } : undefined)
  })
  await using healthy = await startFakeOllama({ models: ["m"], reply: "one two three four five six seven eight" })
  await using slow = await startFakeOllama({ models: ["late"], faults: { kind: "hang" } })
  await using quick = await startFakeOllama({ models: ["late"], loaded: ["late"] })
  const first = (url: string, more: object = {}) => ({ url, priority: 0, ...more })
  const second = (url: string) => ({ url, priority: 1 })
  const full = { ...first(slow.url), maxInFlight: 1 }
  await using gateway = await startGateway([first(breaking.url), second(healthy.url)])
  // A stream that breaks, and goes on.
  const stream = await gateway.post("/v1/chat/completions", body("m", { stream: true }))
  assert.include(await stream.text(), "[DONE]")
  // A second request where the first is late: one call of twenty may have one.
  await using late = await startFakeOllama({ models: ["late"] })
  await using hedging = await startGateway(
    [first(late.url), second(quick.url)],
    {},
    { cortex: { hedge: { after: 200 } } }
  )
  const hedged = () => hedging.post("/v1/chat/completions", body("late"))
  await (await hedging.get("/models")).text()
  for (let i = 0; i < 20; i++) await hedged()
  await late.setBehaviour({ faults: { kind: "hang" } })
  assert.strictEqual((await hedged()).status, 200)
  // A call that waits, and one that may not.
  await using waiting = await startGateway([full], {}, { cortex: { maxQueued: 1 } })
  const leaving = new AbortController()
  const ask = () => waiting.post("/v1/chat/completions", body("late"), { signal: leaving.signal })
  const calls = [ask(), ask(), ask()].map((call) =>
    call.then(
      ({ status }) => status,
      () => 0
    )
  )
  assert.isAtLeast(await Promise.race(calls), 429)
  const queued = await (await waiting.get("/metrics")).text()
  leaving.abort()
  await Promise.all(calls)

  const pages = [await (await gateway.get("/metrics")).text(), await (await hedging.get("/metrics")).text(), queued]
  const exposed = new Map<string, Set<string>>()
  for (const line of pages.join("\n").split("\n")) {
    const [, name, inner = ""] = /^(\w+)(?:\{(.*)\})? /.exec(line) ?? []
    if (name === undefined || line.startsWith("#")) continue
    const labels = exposed.get(name) ?? new Set()
    exposed.set(name, labels)
    for (const [, label = ""] of inner.matchAll(/(\w+)="/g)) labels.add(label)
  }

  const missing = expressions.flatMap((target) =>
    metricsIn(withoutLabels(target.expr)).flatMap((metric) => {
      const labels = exposed.get(metric)
      if (labels === undefined) return [`${target.title}: ${metric}`]
      return labelsIn(target)
        .filter((label) => !labels.has(label) && !added.includes(label))
        .map((label) => `${target.title}: ${metric} has no label ${label}`)
    })
  )
  assert.deepStrictEqual(missing, [])
  assert.isAbove(expressions.length, 20)
}, 120_000)

it("shows in each panel only what the chosen job exposes", () => {
  for (const { expr, title } of expressions) {
    const chosen = expr.match(/\w+\{[^}]*job=~"\$job"\}/g) ?? []
    const named =
      expr.replace(/\{[^}]*\}/g, "{}").match(/\b(?:aicortex|gen_ai_client|gen_ai_server|process)_\w+/g) ?? []
    assert.lengthOf(chosen, named.length, title)
  }
})
