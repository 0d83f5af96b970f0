/** What the keys do. */
import type { Input } from "../chat/interactive/keyboard.js"
import { requestOrders, requestRows, serverOrders, serverRows, type TableName } from "./rows.js"
import type { TopState } from "./state.js"
import * as Text from "./text.js"
import type { Request, Server } from "./wire.js"

/** What can be done to a server or a request. */
export type Action =
  | { readonly type: "rest" | "drain" | "wake"; readonly server: string }
  | { readonly type: "cancel"; readonly id: string; readonly what: string }

interface View {
  /** The chosen row; the first one where it is gone. */
  chosen: string | undefined
  order: number
  filter: string
}

export interface Ui {
  table: TableName
  readonly servers: View
  readonly requests: View
  /** A filter is being typed. */
  typing: boolean
  /** Waits for yes. */
  asks: Action | undefined
  shows: "tables" | "help" | "details"
  /** What was done, or why it was not. */
  message: { readonly text: string; readonly bad: boolean } | undefined
}

export const makeUi = (): Ui => ({
  table: "servers",
  servers: { chosen: undefined, order: 0, filter: "" },
  requests: { chosen: undefined, order: 0, filter: "" },
  typing: false,
  asks: undefined,
  shows: "tables",
  message: undefined
})

export const serversOf = (state: TopState, { servers: { filter, order } }: Ui): ReadonlyArray<Server> =>
  serverRows(state, filter, order)

export const requestsOf = (state: TopState, { requests: { filter, order } }: Ui): ReadonlyArray<Request> =>
  requestRows(state, filter, order)

const idsOf = (state: TopState, ui: Ui): ReadonlyArray<string> =>
  ui.table === "servers" ? serversOf(state, ui).map(({ server }) => server) : requestsOf(state, ui).map(({ id }) => id)

/** The place of the chosen row; 0 where there is none. */
export const chosenAt = (ids: ReadonlyArray<string>, chosen: string | undefined): number =>
  Math.max(0, chosen === undefined ? 0 : ids.indexOf(chosen))

export const chosenServer = (state: TopState, ui: Ui): Server | undefined => {
  const all = serversOf(state, ui)
  return all[
    chosenAt(
      all.map(({ server }) => server),
      ui.servers.chosen
    )
  ]
}

export const chosenRequest = (state: TopState, ui: Ui): Request | undefined => {
  const all = requestsOf(state, ui)
  return all[
    chosenAt(
      all.map(({ id }) => id),
      ui.requests.chosen
    )
  ]
}

/** What follows from a key. */
export type Outcome =
  | { readonly type: "none" }
  | { readonly type: "quit" }
  | { readonly type: "act"; readonly action: Action }

const none: Outcome = { type: "none" }

const move = (state: TopState, ui: Ui, by: number): void => {
  const ids = idsOf(state, ui)
  const at = chosenAt(ids, ui[ui.table].chosen)
  ui[ui.table].chosen = ids[Math.max(0, Math.min(ids.length - 1, at + by))]
}

const notAdmin = "The key has no administrator rights: it may look, and not act."

const begin = (state: TopState, ui: Ui, type: Action["type"], acts: boolean): Outcome => {
  const refuse = (text: string): Outcome => {
    ui.message = { text, bad: true }
    return none
  }
  if (!acts) return refuse("Without a gateway there is nothing to act on.")
  if (state.fleet?.admin === false) return refuse(notAdmin)
  if (type === "cancel") {
    const request = chosenRequest(state, ui)
    if (request === undefined) return refuse("There is no request to cancel.")
    if (request.status !== undefined) return refuse("This request has ended.")
    ui.asks = { type, id: request.id, what: Text.clean(request.model ?? request.id) }
    return none
  }
  const server = chosenServer(state, ui)?.server
  if (server === undefined) return refuse("There is no server.")
  if (type === "wake") return { type: "act", action: { type, server } }
  ui.asks = { type, server }
  return none
}

const type = (ui: Ui, input: Extract<Input, { type: "key" | "paste" }>): Outcome => {
  const view = ui[ui.table]
  if (input.type === "paste") view.filter = Text.clean(view.filter + input.text).slice(0, 100)
  else if (input.name === "escape") {
    view.filter = ""
    ui.typing = false
  } else if (input.name === "return" || input.name === "enter") ui.typing = false
  else if (input.name === "backspace") view.filter = [...view.filter].slice(0, -1).join("")
  else if (input.ctrl && input.name === "u") view.filter = ""
  else view.filter = `${view.filter}${input.text}`.replace(/[\p{Cc}\p{Cf}]/gu, "").slice(0, 100)
  return none
}

/** `page` is the number of rows that are shown; `acts`: whether there is a gateway to act on. */
export const press = (state: TopState, ui: Ui, input: Input, page: number, acts: boolean): Outcome => {
  if (input.type === "end") return { type: "quit" }
  if (input.type === "key" && input.ctrl && (input.name === "c" || input.name === "d")) return { type: "quit" }
  if (ui.typing) return type(ui, input)
  if (input.type === "paste") return none
  ui.message = undefined
  const key = input.text !== "" && input.text.length === 1 && input.text > " " ? input.text : input.name
  if (ui.asks !== undefined) {
    const action = ui.asks
    ui.asks = undefined
    if (key === "y" || key === "Y") return { type: "act", action }
    ui.message = { text: "Nothing was done.", bad: false }
    return none
  }
  if (key === "q") return { type: "quit" }
  if (ui.shows !== "tables") {
    ui.shows = "tables"
    return none
  }
  switch (key) {
    case "up":
    case "k":
      move(state, ui, -1)
      break
    case "down":
    case "j":
      move(state, ui, 1)
      break
    case "pageup":
      move(state, ui, -page)
      break
    case "pagedown":
      move(state, ui, page)
      break
    case "home":
    case "g":
      move(state, ui, Number.NEGATIVE_INFINITY)
      break
    case "end":
    case "G":
      move(state, ui, Number.POSITIVE_INFINITY)
      break
    case "tab":
      ui.table = ui.table === "servers" ? "requests" : "servers"
      break
    case "s": {
      const view = ui[ui.table]
      const count = ui.table === "servers" ? serverOrders.length : requestOrders(state).length
      view.order = (view.order + 1) % count
      break
    }
    case "/":
      ui.typing = true
      break
    case "escape":
      ui[ui.table].filter = ""
      break
    case "?":
    case "h":
      ui.shows = "help"
      break
    case "return":
    case "enter":
      ui.shows = "details"
      break
    case "r":
      return begin(state, ui, "rest", acts)
    case "d":
      return begin(state, ui, "drain", acts)
    case "w":
      return begin(state, ui, "wake", acts)
    case "c":
      return begin(state, ui, "cancel", acts)
  }
  return none
}
