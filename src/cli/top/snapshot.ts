/** What holds now, as plain tables. */
import * as Table from "../table.js"
import type { Column } from "./columns.js"
import { requestColumns, requestRows, serverColumns, serverRows } from "./rows.js"
import type { TopState } from "./state.js"

const tableOf = <Row>(columns: ReadonlyArray<Column<Row>>, rows: ReadonlyArray<Row>): string =>
  Table.table(
    columns.map(({ title }) => title),
    rows.map((row) => columns.map(({ cell }) => cell(row, 0) || "-")),
    "Why"
  )

/** Tables do not show a course: there is one point of it. */
const stands = <Row>({ title }: Column<Row>): boolean => title !== "Load"

export const snapshot = (state: TopState): string => {
  const servers = serverRows(state, "", 0)
  const requests = requestRows(state, "", 0)
  const parts = [servers.length === 0 ? "No server.\n" : tableOf(serverColumns(state).filter(stands), servers)]
  if (requests.length > 0) parts.push(tableOf(requestColumns(state), requests))
  return parts.join("\n")
}
