import { useEffect, useRef } from "preact/hooks"
import uPlot from "uplot"
import * as Format from "../format"
import { maxPoints, points, useStore } from "../store"

const color = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim()

const options = (width: number): uPlot.Options => {
  const axis = {
    stroke: color("--dim"),
    grid: { stroke: color("--line"), width: 1 },
    ticks: { show: false },
    font: "11px system-ui"
  }
  return {
    width,
    height: 150,
    cursor: { drag: { x: false, y: false } },
    legend: { show: false },
    scales: {
      x: { range: () => [Date.now() / 1_000 - maxPoints, Date.now() / 1_000] },
      n: { range: (_, __, most) => [0, Math.max(4, most * 1.15)] },
      t: { range: (_, __, most) => [0, Math.max(10, most * 1.15)] }
    },
    axes: [
      {
        ...axis,
        values: (_, ticks) => ticks.map((tick) => Format.clock(tick * 1_000).slice(0, 5)),
        space: 70,
        incrs: [60],
        size: 26
      },
      { ...axis, scale: "n", size: 36, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000] },
      { ...axis, scale: "t", side: 1, size: 44, grid: { show: false } }
    ],
    series: [
      {},
      {
        label: "in flight",
        scale: "n",
        stroke: color("--accent"),
        fill: color("--accent-soft"),
        width: 2,
        points: { show: false }
      },
      { label: "queued", scale: "n", stroke: color("--warn"), width: 2, points: { show: false } },
      { label: "tokens", scale: "t", stroke: color("--good"), width: 1.5, dash: [4, 3], points: { show: false } }
    ]
  }
}

/** What the fleet did in the last five minutes. */
export const Chart = () => {
  const place = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot | undefined>(undefined)
  const all = useStore(points)
  useEffect(() => {
    const element = place.current
    if (element === null) return
    const make = () => {
      plot.current?.destroy()
      plot.current = new uPlot(options(element.clientWidth), [[], [], [], []], element)
    }
    make()
    const resize = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height: 150 }))
    resize.observe(element)
    const scheme = matchMedia("(prefers-color-scheme: dark)")
    scheme.addEventListener("change", make)
    return () => {
      resize.disconnect()
      scheme.removeEventListener("change", make)
      plot.current?.destroy()
      plot.current = undefined
    }
  }, [])
  useEffect(() => {
    plot.current?.setData([
      all.map(({ at }) => at / 1_000),
      all.map(({ inFlight }) => inFlight),
      all.map(({ queued }) => queued),
      all.map((_, i) => all.slice(Math.max(0, i - 4), i + 1).reduce((sum, { tokens }) => sum + tokens, 0) / 5)
    ])
  }, [all])
  const last = all.at(-1)
  return (
    <figure class="card chart">
      <figcaption>
        <span class="key accent">in flight</span>
        <span class="key warn">queued</span>
        <span class="key good">tokens/s of answers that ended</span>
      </figcaption>
      <div
        ref={place}
        role="img"
        aria-label={`The last five minutes; now ${last?.inFlight ?? 0} in flight and ${last?.queued ?? 0} queued`}
      />
    </figure>
  )
}
