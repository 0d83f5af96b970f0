import { useState } from "preact/hooks"
import * as Format from "../format"
import { useData } from "../parts/data"
import { Badge, Code, Empty, Problem, Sparkline, Title } from "../parts/small"

interface Percentiles {
  readonly p50: number
  readonly p95: number
}

interface Phase {
  readonly prompt: "short" | "long"
  readonly concurrency: number
  readonly requests: number
  readonly failed: number
  readonly prompt_tokens: number
  readonly first_token_ms: Percentiles
  readonly tokens_per_second: Percentiles
  readonly throughput: number
}

interface Result {
  readonly server: string
  readonly model: string
  readonly at: number
  readonly first_token_ms: number
  readonly tokens_per_second: number
  readonly prompt_tokens_per_second: number | null
  readonly load_ms: number | null
  readonly disagrees: boolean
  readonly complete: boolean
  readonly notes: ReadonlyArray<string>
  readonly phases: ReadonlyArray<Phase>
}

const keyOf = ({ model, server }: Result): string => JSON.stringify([model, server])

/** How much more or less it is than before; `better` is whether more is. */
const Change = ({
  before,
  better,
  now
}: {
  readonly now: number | null
  readonly before: number | null | undefined
  readonly better: boolean
}) => {
  if (now === null || before === null || before === undefined || before === 0) return null
  const percent = Math.round((now / before - 1) * 100)
  if (percent === 0) return <span class="dim small"> ±0 %</span>
  return (
    <span class={`small ${percent > 0 === better ? "good-text" : "bad-text"}`}>
      {" "}
      {percent > 0 ? "+" : "−"}
      {Math.abs(percent)} %
    </span>
  )
}

const together = ({ phases }: Result): Phase | undefined => phases.find(({ concurrency }) => concurrency > 1)

const History = ({ all }: { readonly all: ReadonlyArray<Result> }) => {
  const [newest] = all
  if (newest === undefined) return null
  return (
    <section class="card stack" aria-label={`History of ${newest.model} on ${newest.server}`}>
      <h2>
        <bdi>{Format.harmless(newest.model)}</bdi> on <bdi>{newest.server}</bdi>
      </h2>
      {newest.notes.map((note) => (
        <p class="dim" key={note}>
          {Format.harmless(note)}
        </p>
      ))}
      <div class="scroll" tabIndex={0} role="region" aria-label="Measurements">
        <table>
          <thead>
            <tr>
              <th scope="col">Measured (UTC)</th>
              {["First token", "p95", "Prompt tokens/s", "Output tokens/s", "p95", "Several at once", "Loading"].map(
                (name, i) => (
                  <th scope="col" class="number" key={i}>
                    {name}
                  </th>
                )
              )}
            </tr>
          </thead>
          <tbody>
            {all.map((result, i) => {
              const before = all[i + 1]
              const alone = result.phases.find(({ concurrency, prompt }) => prompt === "short" && concurrency === 1)
              const several = together(result)
              return (
                <tr key={result.at}>
                  <th scope="row">
                    {Format.date(new Date(result.at).toISOString())}{" "}
                    {result.complete ? null : <Badge tone="warn">not complete</Badge>}
                    {result.disagrees ? <Badge tone="warn">the server claims otherwise</Badge> : null}
                  </th>
                  <td class="number">
                    {Format.milliseconds(result.first_token_ms)}
                    <Change now={result.first_token_ms} before={before?.first_token_ms} better={false} />
                  </td>
                  <td class="number">{Format.milliseconds(alone?.first_token_ms.p95)}</td>
                  <td class="number">
                    {Format.amount(result.prompt_tokens_per_second)}
                    <Change
                      now={result.prompt_tokens_per_second}
                      before={before?.prompt_tokens_per_second}
                      better={true}
                    />
                  </td>
                  <td class="number">
                    {Format.amount(result.tokens_per_second)}
                    <Change now={result.tokens_per_second} before={before?.tokens_per_second} better={true} />
                  </td>
                  <td class="number">{Format.amount(alone?.tokens_per_second.p95)}</td>
                  <td class="number">
                    {several === undefined ? "–" : `${Format.amount(several.throughput)} (${several.concurrency})`}
                  </td>
                  <td class="number">{Format.milliseconds(result.load_ms)}</td>
                </tr>
              )
            })}
          </tbody>
        </table>
      </div>
    </section>
  )
}

/** How fast the servers were when they were measured. */
export const Benchmarks = () => {
  const data = useData<{ readonly kept: boolean; readonly benchmarks: ReadonlyArray<Result> }>(
    "/benchmarks?limit=2000",
    30_000
  )
  const [model, setModel] = useState("")
  const [chosen, setChosen] = useState("")
  const all = data.value?.benchmarks ?? []
  const groups = new Map<string, Array<Result>>()
  for (const result of all) {
    const group = groups.get(keyOf(result))
    if (group === undefined) groups.set(keyOf(result), [result])
    else group.push(result)
  }
  const models = [...new Set(all.map((result) => result.model))].sort()
  const rows = [...groups]
    .filter(([, [newest]]) => model === "" || newest?.model === model)
    .sort(
      ([, [a]], [, [b]]) =>
        a?.model.localeCompare(b?.model ?? "") || (b?.tokens_per_second ?? 0) - (a?.tokens_per_second ?? 0)
    )
  const most = Math.max(1, ...rows.map(([, [newest]]) => newest?.tokens_per_second ?? 0))
  const history = groups.get(chosen)
  return (
    <>
      <Title name="Benchmarks">
        {models.length > 1 ? (
          <label class="inline">
            Model
            <select aria-label="Model" value={model} onChange={(event) => setModel(event.currentTarget.value)}>
              <option value="">all</option>
              {models.map((one) => (
                <option key={one} value={one}>
                  {Format.harmless(one)}
                </option>
              ))}
            </select>
          </label>
        ) : null}
      </Title>
      <Problem of={data.problem} />
      {data.value === undefined ? (
        data.problem === undefined ? (
          <Empty>Reading the benchmarks…</Empty>
        ) : null
      ) : rows.length === 0 ? (
        <section class="card">
          <p>
            {data.value.kept
              ? "No server of this fleet has been measured yet. On the machine of the gateway:"
              : "This gateway has no state file, beside which results are kept (AICORTEX_STATE)."}
          </p>
          {data.value.kept ? <Code label="Shell" text="aicortex bench --all" /> : null}
        </section>
      ) : (
        <div class="stack">
          <section class="card" aria-label="Comparison">
            <div class="scroll" tabIndex={0} role="region" aria-label="The last measurements">
              <table class="middle">
                <thead>
                  <tr>
                    <th scope="col">Model</th>
                    <th scope="col">Server</th>
                    <th scope="col" class="number">
                      Output tokens/s
                    </th>
                    <th scope="col" class="bar-column">
                      <span class="visually-hidden">Compared</span>
                    </th>
                    <th scope="col" class="number">
                      First token
                    </th>
                    <th scope="col" class="number">
                      Prompt tokens/s
                    </th>
                    <th scope="col" class="number">
                      Several at once
                    </th>
                    <th scope="col">Over time</th>
                    <th scope="col">Measured (UTC)</th>
                    <th scope="col" class="number">
                      Actions
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {rows.map(([key, [newest, before, ...older]]) => {
                    if (newest === undefined) return null
                    const several = together(newest)
                    const times = [...older].reverse().concat(before ?? [], newest)
                    return (
                      <tr key={key}>
                        <th scope="row">
                          <bdi>{Format.harmless(newest.model)}</bdi>
                        </th>
                        <td>
                          <bdi>{newest.server}</bdi>
                        </td>
                        <td class="number">
                          {Format.amount(newest.tokens_per_second)}
                          <Change now={newest.tokens_per_second} before={before?.tokens_per_second} better={true} />
                        </td>
                        <td class="bar-column" aria-hidden="true">
                          <div class="meter">
                            <div style={{ width: `${(newest.tokens_per_second / most) * 100}%` }} />
                          </div>
                        </td>
                        <td class="number">
                          {Format.milliseconds(newest.first_token_ms)}
                          <Change now={newest.first_token_ms} before={before?.first_token_ms} better={false} />
                        </td>
                        <td class="number">{Format.amount(newest.prompt_tokens_per_second)}</td>
                        <td class="number">
                          {several === undefined
                            ? "–"
                            : `${Format.amount(several.throughput)} (${several.concurrency})`}
                        </td>
                        <td>
                          <Sparkline
                            values={times.map(({ tokens_per_second }) => tokens_per_second)}
                            points={20}
                            label={`Output tokens per second of the last ${times.length} measurements`}
                          />
                        </td>
                        <td>{Format.date(new Date(newest.at).toISOString())}</td>
                        <td class="actions">
                          <button
                            type="button"
                            class="small"
                            aria-pressed={chosen === key}
                            aria-label={`History of ${newest.model} on ${newest.server}`}
                            onClick={() => setChosen(chosen === key ? "" : key)}
                          >
                            History
                          </button>
                        </td>
                      </tr>
                    )
                  })}
                </tbody>
              </table>
            </div>
          </section>
          {history === undefined ? null : <History all={history} />}
        </div>
      )}
    </>
  )
}
