/** The chart: an SVG by hand, on a logarithmic axis of seconds. */
import type { Spread } from "./metrics.js"

export interface Panel {
  readonly title: string
  readonly groups: ReadonlyArray<{
    readonly name: string
    readonly rows: ReadonlyArray<{ readonly name: string; readonly p50: Spread; readonly p99: Spread }>
  }>
}

const colours: ReadonlyArray<readonly [light: string, dark: string]> = [
  ["#8a8f98", "#9aa0aa"],
  ["#b7791f", "#e0a84e"],
  ["#7b5ea7", "#b79be0"],
  ["#c05780", "#ec8fb4"],
  ["#3d8f8b", "#6cc5c0"],
  ["#6b7f2a", "#a9c25d"],
  ["#222222", "#f2f2f2"],
  ["#d6402b", "#ff7a63"]
]

const rowHeight = 11
const groupGap = 12
const left = 92
const panelWidth = 620
const gap = 36
const top = 92

const escape = (text: string): string => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;")

const ticks = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 120]
const least = 0.04
const most = 150

export const chart = (panels: ReadonlyArray<Panel>, names: ReadonlyArray<string>, subtitle: string): string => {
  const groups = panels[0]?.groups ?? []
  const body = groups.reduce((sum, group) => sum + group.rows.length * rowHeight + groupGap, 0)
  const height = top + body + 40
  const width = left + panels.length * panelWidth + (panels.length - 1) * gap + 20
  const colourOf = (name: string): number => Math.max(0, names.indexOf(name)) % colours.length
  const out: Array<string> = []
  const line = (text: string) => void out.push(text)
  line(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}"`)
  line(` font-family="system-ui, sans-serif" font-size="11" role="img" aria-label="Time to first token by policy">`)
  line("<style>")
  line(":root{color-scheme:light dark}.bg{fill:#fff}.ink{fill:#1d2129}.dim{fill:#626975}.grid{stroke:#e3e6ea}")
  line(colours.map(([light], i) => `.f${i}{fill:${light}}.s${i}{stroke:${light}}`).join(""))
  line("@media (prefers-color-scheme:dark){.bg{fill:#15181d}.ink{fill:#eceff3}.dim{fill:#9aa2ae}.grid{stroke:#2b3038}")
  line(`${colours.map(([, dark], i) => `.f${i}{fill:${dark}}.s${i}{stroke:${dark}}`).join("")}}`)
  line("</style>")
  line(`<rect class="bg" width="${width}" height="${height}"/>`)
  line(`<text class="ink" x="12" y="22" font-size="15" font-weight="600">Time to first token, seconds</text>`)
  line(`<text class="dim" x="12" y="39">${escape(subtitle)}</text>`)
  let x = 12
  for (const name of names) {
    const i = colourOf(name)
    line(
      `<circle class="f${i}" cx="${x + 4}" cy="54" r="4"/><text class="ink" x="${x + 12}" y="58">${escape(name)}</text>`
    )
    x += 26 + name.length * 6.4
  }
  panels.forEach((panel, index) => {
    const x0 = left + index * (panelWidth + gap)
    const at = (seconds: number): string => {
      const share = Math.log(Math.min(most, Math.max(least, seconds)) / least) / Math.log(most / least)
      return (x0 + share * panelWidth).toFixed(1)
    }
    line(`<text class="ink" x="${x0}" y="78" font-weight="600">${escape(panel.title)}</text>`)
    for (const tick of ticks) {
      line(`<line class="grid" x1="${at(tick)}" x2="${at(tick)}" y1="${top - 6}" y2="${top + body}"/>`)
      line(`<text class="dim" x="${at(tick)}" y="${top + body + 14}" text-anchor="middle">${tick}</text>`)
    }
    let y = top
    for (const group of panel.groups) {
      const middle = y + (group.rows.length * rowHeight) / 2 + 4
      if (index === 0) {
        line(`<text class="ink" x="${left - 10}" y="${middle}" text-anchor="end">${escape(group.name)}</text>`)
      }
      for (const row of group.rows) {
        const i = colourOf(row.name)
        const cy = y + rowHeight / 2
        const { p50, p99 } = row
        line(
          `<g><title>${escape(`${group.name}, ${row.name}: p50 ${p50.median.toFixed(2)} s, p99 ${p99.median.toFixed(2)} s`)}</title>`
        )
        line(
          `<line class="s${i}" x1="${at(p50.median)}" x2="${at(p99.median)}" y1="${cy}" y2="${cy}" stroke-opacity=".35"/>`
        )
        line(
          `<line class="s${i}" x1="${at(p99.min)}" x2="${at(p99.max)}" y1="${cy}" y2="${cy}" stroke-width="3" stroke-opacity=".45"/>`
        )
        line(`<circle class="bg s${i}" cx="${at(p50.median)}" cy="${cy}" r="2.6" stroke-width="1.3"/>`)
        line(`<circle class="f${i}" cx="${at(p99.median)}" cy="${cy}" r="3.6"/></g>`)
        y += rowHeight
      }
      y += groupGap
    }
  })
  line("</svg>")
  return `${out.join("\n")}\n`
}
