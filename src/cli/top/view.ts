/** What the screen shows. */
import { counted } from "../counted.js"
import type { Column, Style } from "./columns.js"
import * as Columns from "./columns.js"
import * as Details from "./details.js"
import { requestColumns, requestOrders, serverColumns, serverOrders, type TableName } from "./rows.js"
import type { TopState } from "./state.js"
import * as Text from "./text.js"
import { chosenAt, requestsOf, serversOf, type Ui } from "./ui.js"

export interface Frame {
  readonly lines: ReadonlyArray<string>
  /** Rows of the chosen table that are shown. */
  readonly page: number
}

export interface Look {
  readonly columns: number
  readonly rows: number
  readonly color: boolean
  /** What is looked at. */
  readonly title: string
}

const codes: { readonly [S in Style | "bold" | "reverse"]: readonly [open: number, close: number] } = {
  dim: [2, 22],
  bold: [1, 22],
  reverse: [7, 27],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39]
}

export type Paint = (style: keyof typeof codes, text: string) => string

const painter =
  (color: boolean): Paint =>
  (style, text) => {
    if (!color) return text
    const [open, close] = codes[style]
    return `\u001b[${open}m${text}\u001b[${close}m`
  }

const help = [
  "Up, Down, j, k   choose a row; g, G, Page Up and Page Down go further",
  "Tab              the other table",
  "Enter            all that is known of the row",
  "r                let the server rest for a minute: it is asked only where no other can be",
  "d                drain the server: it gets no new requests",
  "w                wake the server: ends both, and closes its circuit breakers",
  "c                cancel the request",
  "s                another order",
  "/                show only rows with these words; Esc shows all",
  "q                quit"
]

const connectionOf = ({ connection }: TopState, paint: Paint): readonly [plain: string, painted: string] => {
  if (connection.state === "live") return ["live", paint("green", "live")]
  if (connection.state === "connecting") return ["connecting", paint("yellow", "connecting")]
  const left = Math.max(0, Math.ceil((connection.retryAt - Date.now()) / 1_000))
  const text = `lost: ${Text.clean(connection.why)}; again in ${left} s`
  return [text, paint("red", text)]
}

const topLine = (state: TopState, { columns, title }: Look, paint: Paint): string => {
  const [plain, painted] = connectionOf(state, paint)
  const room = columns - Text.width(plain) - 2
  if (room < 12) return paint("red", Text.fit(plain, columns))
  const version = state.fleet === undefined ? "" : `  ${Text.clean(state.fleet.version)}`
  return `${paint("bold", Text.fit(`aicortex top  ${title}${version}`, room))}  ${painted}`
}

const summary = (state: TopState, { columns }: Look): string => {
  const { fleet } = state
  if (fleet === undefined) return ""
  const down = fleet.servers.filter(({ reachable }) => !reachable).length
  const { limit, used } = fleet.remote_tokens
  const remote =
    used === 0 && limit === null
      ? ""
      : `remote tokens ${Text.number(used)}${limit === null ? "" : `/${Text.number(limit)}`}`
  const parts = [
    `${counted(fleet.servers.length, "server")}${down === 0 ? "" : ` (${down} down)`}`,
    `${fleet.in_flight} in flight`,
    `${fleet.queued} queued`,
    `${Text.number(Math.round(state.tokensPerSecond))} tokens/s`,
    ...(remote === "" ? [] : [remote]),
    ...(fleet.admin ? [] : ["read only"])
  ]
  return Text.fit(parts.join("   "), columns)
}

const footer = (ui: Ui, { columns }: Look, paint: Paint): string => {
  const { asks, message } = ui
  if (asks !== undefined) {
    const what =
      asks.type === "cancel" ? `Cancel the request to ${asks.what}` : `Let ${Text.clean(asks.server)} ${asks.type}`
    const words = asks.type === "drain" ? `Drain ${Text.clean(asks.server)}` : what
    return paint("yellow", Text.fit(`${words}? y: yes, any other key: no`, columns))
  }
  if (ui.typing) return Text.fit(`/${ui[ui.table].filter}▏`, columns)
  if (message !== undefined) return paint(message.bad ? "red" : "green", Text.fit(Text.clean(message.text), columns))
  const keys = "q quit  ? help  Tab table  s sort  / filter  r rest  d drain  w wake  c cancel  Enter details"
  return paint("dim", Text.fit(keys, columns))
}

interface Section {
  readonly lines: ReadonlyArray<string>
  readonly page: number
}

interface Content<Row> {
  readonly name: TableName
  readonly title: string
  readonly order: string
  readonly rows: ReadonlyArray<Row>
  readonly columns: ReadonlyArray<Column<Row>>
  readonly idOf: (row: Row) => string
}

/** A title, a head, and as many rows as there is room for; the chosen one is among them. */
const section = <Row>(
  { columns, idOf, name, order, rows, title }: Content<Row>,
  ui: Ui,
  look: Look,
  height: number,
  paint: Paint
): Section => {
  const view = ui[name]
  const isActive = ui.table === name
  const page = Math.max(1, height - 2)
  const ids = rows.map(idOf)
  const at = chosenAt(ids, view.chosen)
  const first = Math.max(0, Math.min(at - Math.floor(page / 2), rows.length - page))
  const shown = rows.slice(first, first + page)
  const placed = Columns.place(columns, shown, look.columns - 2)
  const more = rows.length > page ? `  ${first + 1}-${first + shown.length} of ${rows.length}` : ""
  const filter = view.filter === "" ? "" : `  only: ${view.filter}`
  const heading = Text.fit(`${title}${more}  by ${order}${filter}`, look.columns)
  const lines = [
    isActive ? paint("bold", heading) : heading,
    paint("dim", Text.fit(`  ${Columns.header(placed)}`, look.columns))
  ]
  for (const [row, value] of shown.entries()) {
    const isChosen = isActive && first + row === at
    const line = Columns.line(placed, value, isChosen ? (_, text) => text : paint)
    lines.push(isChosen ? paint("reverse", `› ${line}`) : `  ${line}`)
  }
  if (shown.length === 0)
    lines.push(paint("dim", Text.fit(view.filter === "" ? "  none" : "  none of these words", look.columns)))
  return { lines: lines.slice(0, height), page }
}

const tables = (state: TopState, ui: Ui, look: Look, height: number, paint: Paint): Section => {
  const servers = serversOf(state, ui)
  const requests = requestsOf(state, ui)
  const running = requests.filter(({ status }) => status === undefined).length
  const one = (room: number) =>
    section(
      {
        name: "servers",
        title: "Servers",
        order: serverOrders[ui.servers.order]?.name ?? "",
        rows: servers,
        columns: serverColumns(state),
        idOf: ({ server }) => server
      },
      ui,
      look,
      room,
      paint
    )
  const two = (room: number) =>
    section(
      {
        name: "requests",
        title: `Requests: ${running} now`,
        order: requestOrders(state)[ui.requests.order]?.name ?? "",
        rows: requests,
        columns: requestColumns(state),
        idOf: ({ id }) => id
      },
      ui,
      look,
      room,
      paint
    )
  // Too low for both: only the chosen one.
  if (height < 8) return ui.table === "servers" ? one(height) : two(height)
  const half = Math.floor((height - 1) / 2)
  const [first, second] = [Math.max(3, servers.length + 2), Math.max(3, requests.length + 2)]
  const room = Math.min(first, Math.max(half, height - 1 - second))
  const upper = one(room)
  const lower = two(height - 1 - upper.lines.length)
  return {
    lines: [...upper.lines, "", ...lower.lines],
    page: ui.table === "servers" ? upper.page : lower.page
  }
}

/** The lines of the screen, exactly `rows`. */
export const frame = (state: TopState, ui: Ui, look: Look): Frame => {
  const paint = painter(look.color)
  const height = look.rows - 4
  const lines: Array<string> = [topLine(state, look, paint), summary(state, look), ""]
  let page = 1
  if (ui.shows === "help") lines.push(...help.map((line) => Text.fit(line, look.columns)))
  else if (ui.shows === "details") {
    lines.push(...Details.of(state, ui, height).map((line) => Text.fit(line, look.columns)))
  } else {
    const shown = tables(state, ui, look, height, paint)
    lines.push(...shown.lines)
    page = shown.page
  }
  const body = lines.slice(0, look.rows - 1)
  while (body.length < look.rows - 1) body.push("")
  return { lines: [...body, footer(ui, look, paint)].map((line) => line.trimEnd()), page }
}
