/** Markdown as lines for a terminal: `marked` reads it, `wrap-ansi` breaks the lines. */
import { Lexer, type MarkedToken, type Token, type Tokens } from "marked"
import width from "string-width"
import wrapAnsi from "wrap-ansi"

/** A block of a text, and its lines. */
export interface Block {
  /** Its source. */
  readonly raw: string
  readonly lines: ReadonlyArray<string>
}

/** Makes blocks of a text; the lines are at most so wide. */
export type Painter = (source: string, columns: number) => ReadonlyArray<Block>

const tab = "    "

// biome-ignore lint/suspicious/noControlCharactersInRegex: styles may stand before the space.
const leadingSpace = /^((?:\u001b\[[0-9;]*m)*) +/

// biome-ignore lint/suspicious/noControlCharactersInRegex: styles may end behind the space.
const trailingSpace = / +((?:\u001b\[[0-9;]*m)*)$/

/** Words are not broken unless they are wider than the terminal. */
export const wrap = (text: string, columns: number): ReadonlyArray<string> =>
  text
    .replaceAll("\t", tab)
    .split("\n")
    .flatMap((line) =>
      wrapAnsi(line, Math.max(1, columns), { hard: true, trim: false })
        .split("\n")
        .map((row, at) => (at === 0 ? row : row.replace(leadingSpace, "$1")).replace(trailingSpace, "$1"))
    )

/** Breaks lines anywhere, and keeps their white space. */
const cut = (text: string, columns: number): ReadonlyArray<string> => {
  const line = text.replaceAll("\t", tab)
  if (line.length <= columns && width(line) <= columns) return [line]
  return wrapAnsi(line, Math.max(1, columns), { hard: true, trim: false, wordWrap: false }).split("\n")
}

/** Text as it is: each of its lines is a block. */
export const plain: Painter = (source, columns) => {
  const lines = source.split("\n")
  const blocks = lines.map((line, at) => ({
    raw: at < lines.length - 1 ? `${line}\n` : line,
    lines: wrap(line, columns)
  }))
  if (source.endsWith("\n")) blocks.pop()
  return blocks
}

// =============================================================================
// Styles
// =============================================================================

const sgr = (open: number, close: number) => (text: string) => `\u001b[${open}m${text}\u001b[${close}m`

interface Styles {
  readonly heading: (text: string, depth: number) => string
  readonly strong: (text: string) => string
  readonly emphasis: (text: string) => string
  readonly deleted: (text: string) => string
  readonly code: (text: string) => string
  readonly link: (text: string) => string
  readonly faint: (text: string) => string
}

const bold = sgr(1, 22)
const underline = sgr(4, 24)

const coloured: Styles = {
  heading: (text, depth) => (depth === 1 ? bold(underline(text)) : bold(text)),
  strong: bold,
  emphasis: sgr(3, 23),
  deleted: sgr(9, 29),
  code: sgr(36, 39),
  link: underline,
  faint: sgr(2, 22)
}

/** Without colours the marks of the source show what is meant. */
const colourless: Styles = {
  heading: (text, depth) => `${"#".repeat(depth)} ${text}`,
  strong: (text) => `**${text}**`,
  emphasis: (text) => `*${text}*`,
  deleted: (text) => `~~${text}~~`,
  code: (text) => `\`${text}\``,
  link: (text) => text,
  faint: (text) => text
}

// =============================================================================
// Text within a block
// =============================================================================

const entities: { readonly [name: string]: string } = {
  "&amp;": "&",
  "&lt;": "<",
  "&gt;": ">",
  "&quot;": '"',
  "&#39;": "'",
  "&nbsp;": " "
}
const decoded = (text: string): string => text.replace(/&(amp|lt|gt|quot|#39|nbsp);/g, (name) => entities[name] ?? name)

// No extension is used, so every token is one of marked's own.
const inline = (tokens: ReadonlyArray<Token>, styles: Styles): string =>
  (tokens as ReadonlyArray<MarkedToken>)
    .map((token) => {
      switch (token.type) {
        case "strong":
          return styles.strong(inline(token.tokens, styles))
        case "em":
          return styles.emphasis(inline(token.tokens, styles))
        case "del":
          return styles.deleted(inline(token.tokens, styles))
        case "codespan":
          return styles.code(token.text)
        case "br":
          return "\n"
        case "link": {
          const text = inline(token.tokens, styles)
          const isAddress = token.text === token.href || `mailto:${token.text}` === token.href
          return isAddress ? styles.link(text) : `${styles.link(text)} ${styles.faint(`(${token.href})`)}`
        }
        case "image":
          return `${token.text === "" ? "image" : token.text} ${styles.faint(`(${token.href})`)}`
        case "checkbox":
          return token.checked ? "[x] " : "[ ] "
        case "escape":
          return decoded(token.text)
        case "text":
          return "tokens" in token && token.tokens !== undefined ? inline(token.tokens, styles) : decoded(token.text)
        default:
          return token.raw
      }
    })
    .join("")

// =============================================================================
// Blocks
// =============================================================================

const indented = (lines: ReadonlyArray<string>, first: string, others: string): ReadonlyArray<string> =>
  lines.map((line, at) => (line === "" && at > 0 ? "" : (at === 0 ? first : others) + line))

const list = (token: Tokens.List, columns: number, styles: Styles): ReadonlyArray<string> => {
  const start = token.start === "" ? 1 : token.start
  return token.items.flatMap((item, at) => {
    const mark = token.ordered ? `${start + at}. ` : "• "
    const [box, ...others] = item.tokens
    const tokens = box?.type === "checkbox" ? others : item.tokens
    const done = box?.type === "checkbox" ? inline([box], styles) : ""
    const room = Math.max(8, columns - mark.length - done.length)
    const lines = indented(body(tokens, room, styles), done, " ".repeat(done.length))
    const gap = token.loose && at > 0 ? [""] : []
    return [...gap, ...indented(lines.length === 0 ? [""] : lines, mark, " ".repeat(mark.length))]
  })
}

/** A closed block has its last fence. */
const code = (token: Tokens.Code, columns: number, styles: Styles): ReadonlyArray<string> => {
  const fence = /^ {0,3}(`{3,}|~{3,})/.exec(token.raw)?.[1]
  const lines = token.text === "" ? [] : token.text.split("\n").flatMap((line) => cut(line, columns))
  const painted = styles === coloured ? lines.map((line) => (line === "" ? "" : styles.code(line))) : lines
  if (fence === undefined) return indented(painted, tab, tab)
  const isClosed = new RegExp(`\\n {0,3}${fence[0] === "~" ? "~" : "`"}{${fence.length},}\\s*$`).test(token.raw)
  const opening = cut(`${fence}${token.lang ?? ""}`, columns).map(styles.faint)
  return [...opening, ...painted, ...(isClosed ? [styles.faint(fence)] : [])]
}

const padded = (text: string, size: number, align: string | null): string => {
  const space = Math.max(0, size - width(text))
  const left = align === "right" ? space : align === "center" ? space >> 1 : 0
  return " ".repeat(left) + text + " ".repeat(space - left)
}

/** A table; if it is too wide, each row is a list of its cells. */
const table = (token: Tokens.Table, columns: number, styles: Styles): ReadonlyArray<string> => {
  const head = token.header.map(({ tokens }) => inline(tokens, styles))
  const rows = token.rows.map((row) => row.map(({ tokens }) => inline(tokens, styles)))
  const sizes = head.map((cell, at) => Math.max(width(cell), ...rows.map((row) => width(row[at] ?? ""))))
  const total = sizes.reduce((sum, size) => sum + size, 3 * (sizes.length - 1))
  if (total > columns) {
    return rows.flatMap((row, at) => [
      ...(at > 0 ? [""] : []),
      ...row.flatMap((cell, column) =>
        indented(wrap(`${styles.strong(head[column] ?? "")}: ${cell}`, columns - 2), "", "  ")
      )
    ])
  }
  const line = (cells: ReadonlyArray<string>) =>
    cells
      .map((cell, at) => padded(cell, sizes[at] ?? 0, token.align[at] ?? null))
      .join(styles.faint(" │ "))
      .trimEnd()
  const rule = styles.faint(sizes.map((size) => "─".repeat(size)).join("─┼─"))
  return [line(styles === coloured ? head.map(bold) : head), rule, ...rows.map(line)]
}

const block = (token: MarkedToken, columns: number, styles: Styles): ReadonlyArray<string> => {
  switch (token.type) {
    case "space":
    case "def":
      return []
    case "heading":
      return wrap(styles.heading(inline(token.tokens, styles), token.depth), columns)
    case "list":
      return list(token, columns, styles)
    case "code":
      return code(token, columns, styles)
    case "table":
      return table(token, columns, styles)
    case "blockquote":
      return body(token.tokens, Math.max(8, columns - 2), styles).map((line) =>
        `${styles.faint("│")} ${line}`.trimEnd()
      )
    case "hr":
      return [styles.faint("─".repeat(Math.min(columns, 40)))]
    case "html":
      return wrap(token.raw.replace(/\n+$/, ""), columns)
    default:
      return wrap(inline([token.type === "paragraph" ? { ...token, type: "text" } : token], styles), columns)
  }
}

/** The blocks of a text; an empty line before one is the first of its lines. */
const blocks = (tokens: ReadonlyArray<Token>, columns: number, styles: Styles): ReadonlyArray<Block> => {
  const all: Array<Block> = []
  let raw = ""
  let shown = ""
  for (const token of tokens) {
    raw += token.raw
    const lines = block(token as MarkedToken, columns, styles)
    if (lines.length === 0) {
      shown += token.raw
      continue
    }
    const gap = all.length > 0 && shown.endsWith("\n\n") ? [""] : []
    all.push({ raw, lines: [...gap, ...lines] })
    raw = ""
    shown = token.raw
  }
  return all
}

const body = (tokens: ReadonlyArray<Token>, columns: number, styles: Styles): ReadonlyArray<string> =>
  blocks(tokens, columns, styles).flatMap(({ lines }) => lines)

/** Markdown, with colours or without. */
export const markdown = (colours: boolean): Painter => {
  const styles = colours ? coloured : colourless
  return (source, columns) => blocks(new Lexer({ gfm: true }).lex(source), columns, styles)
}
