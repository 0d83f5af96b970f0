import { useEffect, useRef } from "preact/hooks"
import uPlot from "uplot"
import * as Format from "../format"

/** So many series have a colour of their own; the last is for the rest. */
export const colors = 7

const color = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim()

/** Amounts of one span of time: one number for each series. */
export interface Bar {
  /** When it begins, in milliseconds since the epoch. */
  readonly at: number
  readonly values: ReadonlyArray<number>
}

const height = 210

const options = (width: number, names: ReadonlyArray<string>, span: number, bars: ReadonlyArray<Bar>) => {
  const axis = { stroke: color("--dim"), ticks: { show: false }, font: "11px system-ui" }
  const first = (bars[0]?.at ?? 0) / 1_000
  const last = (bars.at(-1)?.at ?? 0) / 1_000
  const paths = (uPlot.paths.bars as uPlot.Series.BarsPathBuilderFactory)({ size: [0.72, 46] })
  return {
    width,
    height,
    tzDate: (seconds: number) => uPlot.tzDate(new Date(seconds * 1_000), "UTC"),
    cursor: { show: false },
    legend: { show: false },
    scales: {
      x: { range: () => [first - span / 2_000, last + span / 2_000] },
      y: { range: (_, __, most) => [0, Math.max(1, most * 1.1)] }
    },
    axes: [
      {
        ...axis,
        grid: { show: false },
        splits: () => bars.map(({ at }) => at / 1_000),
        filter: (_, splits) => {
          const every = Math.ceil(splits.length / Math.max(2, Math.floor(width / 64)))
          return splits.map((split, i) => ((splits.length - 1 - i) % every === 0 ? split : null))
        },
        values: (_, ticks) => ticks.map((tick) => (tick === null ? null : Format.moment(tick * 1_000, span))),
        size: 26
      },
      {
        ...axis,
        grid: { stroke: color("--line"), width: 1 },
        size: 52,
        values: (_, ticks) => ticks.map((tick) => Format.short(tick))
      }
    ],
    series: [
      {},
      ...names.map((label, i) => ({
        label,
        fill: color(`--series-${Math.min(i, colors - 1) + 1}`),
        width: 0,
        paths,
        points: { show: false }
      }))
    ]
  } satisfies uPlot.Options
}

/** Each bar has the series on top of each other: the first one lowest. */
const stacked = (names: ReadonlyArray<string>, bars: ReadonlyArray<Bar>): uPlot.AlignedData => [
  bars.map(({ at }) => at / 1_000),
  ...names.map((_, i) => bars.map(({ values }) => values.slice(0, i + 1).reduce((sum, value) => sum + value, 0)))
]

/** Amounts over time, of several series. What it shows stands in a table too. */
export const Bars = ({
  bars,
  label,
  names,
  span
}: {
  readonly names: ReadonlyArray<string>
  readonly bars: ReadonlyArray<Bar>
  /** Of each bar, in milliseconds. */
  readonly span: number
  readonly label: string
}) => {
  const place = useRef<HTMLDivElement>(null)
  useEffect(() => {
    const element = place.current
    if (element === null) return
    let plot: uPlot | undefined
    const make = () => {
      plot?.destroy()
      // Those below are drawn over those above, whose bars begin at zero too.
      const [times, ...series] = stacked(names, bars)
      const made = options(element.clientWidth, names, span, bars)
      const [x, ...shown] = made.series
      plot = new uPlot(
        { ...made, series: [x, ...shown.reverse()] as Array<uPlot.Series> },
        [times, ...series.reverse()] as uPlot.AlignedData,
        element
      )
    }
    make()
    const resize = new ResizeObserver(() => plot?.width !== element.clientWidth && make())
    resize.observe(element)
    const scheme = matchMedia("(prefers-color-scheme: dark)")
    scheme.addEventListener("change", make)
    return () => {
      resize.disconnect()
      scheme.removeEventListener("change", make)
      plot?.destroy()
    }
  }, [names, bars, span])
  return <div ref={place} class="bars" role="img" aria-label={label} />
}
