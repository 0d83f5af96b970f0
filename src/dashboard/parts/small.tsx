import type { ComponentChildren } from "preact"
import { useState } from "preact/hooks"
import { harmless } from "../format"
import type { Breaker } from "../types"
import { Icon } from "./icon"

export const Badge = ({ children, tone }: { readonly tone: string; readonly children: ComponentChildren }) => (
  <span class={`badge ${tone}`}>{children}</span>
)

/** The state of a server, or of a model on it, in the words of `aicortex top`: an open breaker is no good news. */
export const State = ({
  draining = false,
  of,
  reachable = true
}: {
  readonly of: Breaker
  readonly draining?: boolean
  readonly reachable?: boolean
}) => {
  if (draining) return <Badge tone="warn">draining</Badge>
  if (of.state === "open") return <Badge tone="bad">resting</Badge>
  if (of.state === "half-open") return <Badge tone="warn">on trial</Badge>
  return reachable ? <Badge tone="good">up</Badge> : <Badge tone="bad">unreachable</Badge>
}

export const Copy = ({ text }: { readonly text: string }) => {
  const [done, setDone] = useState(false)
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text)
    } catch {
      // Without TLS, browsers have no clipboard.
      const area = document.createElement("textarea")
      area.value = text
      document.body.append(area)
      area.select()
      document.execCommand("copy")
      area.remove()
    }
    setDone(true)
    setTimeout(() => setDone(false), 1_500)
  }
  return (
    <button type="button" class="quiet small" onClick={() => void copy()}>
      <Icon name="copy" />
      <span aria-live="polite">{done ? "Copied" : "Copy"}</span>
    </button>
  )
}

export const Code = ({ label, text }: { readonly label: string; readonly text: string }) => (
  <figure class="code">
    <figcaption>
      <span>{label}</span>
      <Copy text={text} />
    </figcaption>
    <pre tabIndex={0} role="region" aria-label={label}>
      <code>{text}</code>
    </pre>
  </figure>
)

/** Numbers as a line. */
export const Sparkline = ({
  label,
  points = 60,
  values
}: {
  readonly values: ReadonlyArray<number>
  readonly label: string
  /** So many fill it. */
  readonly points?: number
}) => {
  const most = Math.max(1, ...values)
  const width = 120
  const height = 28
  const step = width / (points - 1)
  const from = width - (values.length - 1) * step
  const line = values.map(
    (value, i) => `${(from + i * step).toFixed(1)},${(height - 2 - (value / most) * (height - 5)).toFixed(1)}`
  )
  return (
    <svg class="spark" viewBox={`0 0 ${width} ${height}`} role="img" aria-label={label} preserveAspectRatio="none">
      {line.length > 1 ? (
        <>
          <polygon points={`${from.toFixed(1)},${height} ${line.join(" ")} ${width},${height}`} />
          <polyline points={line.join(" ")} />
        </>
      ) : null}
    </svg>
  )
}

/** A share of something, as a bar. */
export const Meter = ({
  label,
  most,
  value
}: {
  readonly value: number
  readonly most: number
  readonly label: string
}) => (
  <div class="meter" role="meter" aria-label={label} aria-valuenow={value} aria-valuemin={0} aria-valuemax={most}>
    <div
      class={value >= most ? "full" : ""}
      style={{ width: `${Math.min(100, most === 0 ? 0 : (value / most) * 100)}%` }}
    />
  </div>
)

export const Tile = ({
  label,
  note,
  value
}: {
  readonly label: string
  readonly value: string
  readonly note?: string
}) => (
  <div class="tile">
    <dt>{label}</dt>
    <dd>
      {value}
      {note === undefined ? null : <span class="dim"> {note}</span>}
    </dd>
  </div>
)

/** What could not be done. */
export const Problem = ({ of }: { readonly of: { readonly message: string } | undefined }) => (
  <p role="alert" class={of === undefined ? "hidden" : "error banner"}>
    {of === undefined ? "" : harmless(of.message)}
  </p>
)

export const Empty = ({ children }: { readonly children: ComponentChildren }) => <p class="empty">{children}</p>

export const Title = ({ children, name }: { readonly name: string; readonly children?: ComponentChildren }) => (
  <div class="title">
    <h1>{name}</h1>
    {children}
  </div>
)
