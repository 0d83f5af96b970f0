/** Bar charts in SVG. */

const width = 800
/** Where bars begin. */
export const left = 20
const right = 20
const barHeight = 12

/** Names come from servers: no character that XML cannot hold, and none that means something there. */
const escape = (text: string): string =>
  text
    .replace(/[^\t\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu, "\ufffd")
    .replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)

/** A figure as people read it. */
export const rounded = (value: number): string => (value < 10 ? value.toFixed(1) : String(Math.round(value)))

/** A line of text. */
export const text = (x: number, y: number, content: string): string =>
  `<text x="${x}" y="${y}">${escape(content)}</text>`

/** A bar as long as its value is to the greatest one, with what it says behind it. */
export const bar = (value: number, most: number, y: number, color: string, label: string): string => {
  const length = most > 0 ? Math.max(1, ((width - left - right - 200) * value) / most) : 1
  return (
    `<rect x="${left}" y="${y}" width="${length.toFixed(1)}" height="${barHeight}" fill="${color}"/>` +
    `<text x="${(left + length + 6).toFixed(1)}" y="${y + barHeight - 2}" class="value">${escape(label)}</text>`
  )
}

/** The whole. `label` is for those who do not see it. */
export const document = ({
  height,
  label,
  rows,
  title
}: {
  readonly label: string
  readonly title: string
  readonly height: number
  readonly rows: ReadonlyArray<string>
}): string =>
  `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-label="${escape(label)}">`,
    '<style>text{font:13px sans-serif;fill:#222}.value{font-size:11px;fill:#555}</style><rect width="100%" height="100%" fill="#fff"/>',
    `<text x="${left}" y="28" font-weight="bold">${escape(title)}</text>`,
    ...rows,
    "</svg>"
  ].join("\n")}\n`
