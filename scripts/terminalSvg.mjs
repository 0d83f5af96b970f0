/**
 * A terminal session as an animated SVG: each piece of text appears when it was written, and the whole is shown again
 * and again. Where nothing is animated (print, reduced motion, a viewer without CSS), all of it stands there.
 */

/**
 * `at` in milliseconds; `aside` is what happens meanwhile in another terminal.
 *
 * @typedef {{ readonly at: number; readonly text: string; readonly style: "prompt" | "typed" | "output" | "aside" }} Piece
 */

const [charWidth, lineHeight, padding, bar] = [8.4, 20, 16, 34]
/** How long the end stays before it begins again, in ms. */
const rest = 5_000

const escape = (/** @type {string} */ text) =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")

/** @type {(pieces: ReadonlyArray<Piece>, options: { readonly columns: number; readonly title: string }) => string} */
export const render = (pieces, { columns, title }) => {
  /** @type {Array<{ at: number; row: number; column: number; text: string; style: Piece["style"] }>} */
  const spans = []
  /** @type {Piece | undefined} */
  let aside
  let [row, column] = [0, 0]
  for (const { at, style, text } of pieces) {
    if (style === "aside") {
      aside = { at, style, text }
      continue
    }
    for (const [index, line] of text.split("\n").entries()) {
      if (index > 0) [row, column] = [row + 1, 0]
      let left = line
      while (left !== "") {
        if (column >= columns) [row, column] = [row + 1, 0]
        const part = left.slice(0, columns - column)
        const last = spans.at(-1)
        // What was written at once is one text.
        if (last?.at === at && last.row === row && last.style === style) last.text += part
        else spans.push({ at, row, column, text: part, style })
        column += part.length
        left = left.slice(part.length)
      }
    }
  }
  const end = (pieces.at(-1)?.at ?? 0) + rest
  const width = Math.round(columns * charWidth + 2 * padding)
  const bodyHeight = (row + 1) * lineHeight + 2 * padding
  const asideHeight = aside === undefined ? 0 : lineHeight + 2 * padding
  const height = bar + bodyHeight + asideHeight
  const percent = (/** @type {number} */ at) => ((100 * at) / end).toFixed(2)
  /** @type {Map<string, string>} */
  const times = new Map()
  /** The class of what appears at a time. */
  const appears = (/** @type {number} */ at) => {
    const key = percent(at)
    const name = times.get(key) ?? `t${times.size}`
    times.set(key, name)
    return name
  }
  const x = (/** @type {number} */ column) => (padding + column * charWidth).toFixed(1)
  const y = (/** @type {number} */ row) => bar + padding + row * lineHeight + 14
  const texts = spans.map(
    (span) =>
      `<text class="${span.style} ${appears(span.at)}" x="${x(span.column)}" y="${y(span.row)}" textLength="${(span.text.length * charWidth).toFixed(1)}" lengthAdjust="spacingAndGlyphs" xml:space="preserve">${escape(span.text)}</text>`
  )
  if (aside !== undefined) {
    const top = bar + bodyHeight
    texts.push(
      `<path class="line" d="M0 ${top}H${width}"/>`,
      `<text class="label" x="${x(0)}" y="${top + padding + 14}" xml:space="preserve">another terminal</text>`,
      `<text class="aside ${appears(aside.at)}" x="${x(18)}" y="${top + padding + 14}" xml:space="preserve">$ ${escape(aside.text)}</text>`
    )
  }
  const rules = [...times].map(
    ([at, name]) =>
      `@keyframes ${name}{0%{opacity:0}${at}%{opacity:1}to{opacity:1}}.${name}{animation:${name} ${(end / 1000).toFixed(2)}s step-end infinite}`
  )
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escape(title)}">
<title>${escape(title)}</title>
<style>
text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#d7dce2}
.prompt{fill:#7ee787}.typed{fill:#ffffff}.label{fill:#8b949e}.aside{fill:#ff7b72}.line{stroke:#30363d;fill:none}
@media (prefers-reduced-motion:no-preference){${rules.join("\n")}}
</style>
<rect width="${width}" height="${height}" rx="8" fill="#0d1117"/>
<circle cx="20" cy="17" r="5.5" fill="#ff5f56"/><circle cx="38" cy="17" r="5.5" fill="#ffbd2e"/><circle cx="56" cy="17" r="5.5" fill="#27c93f"/>
${texts.join("\n")}
</svg>
`
}
