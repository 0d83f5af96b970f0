/** PostgreSQL, through a pool of connections. */
import { Socket } from "node:net"
import type { SqlClient } from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Channel } from "./channel.js"
import { absent, importing } from "./packages.js"

/** How many connections a process has at most. */
const maxConnections = 10

/** How long a connection may take to be made, or to become free. */
const connectTimeout = "5 seconds"

/** What the server ends on its own where a client hangs or is gone, in milliseconds. */
const limits = { statement_timeout: "30000", idle_in_transaction_session_timeout: "30000" }

/** Those that the address does not set itself. */
const withLimits = (address: string): string => {
  const url = new URL(address)
  for (const [name, value] of Object.entries(limits)) {
    if (!url.searchParams.has(name)) url.searchParams.set(name, value)
  }
  return url.href
}

/** The types of results by their numbers: integers and floats are numbers, truths are booleans, all else is text. */
const parsers = new Map<number, (text: string) => unknown>([
  [16, (text) => text === "t"],
  [20, Number],
  [21, Number],
  [23, Number],
  [700, Number],
  [701, Number],
  [1700, Number]
])
const asText = (text: string): unknown => text

/** The name under which processes hear each other. */
const channelName = "aicortex"

/** The connections of a client: some may be dead without notice. */
class Sockets {
  private readonly lastRead = new Map<Socket, number>()

  readonly make = (): Socket => {
    const socket = new Socket()
    const read = () => this.lastRead.set(socket, performance.now())
    read()
    socket.on("data", read)
    socket.once("close", () => this.lastRead.delete(socket))
    return socket
  }

  dropSilent(silence: number): void {
    const now = performance.now()
    for (const [socket, at] of this.lastRead) {
      if (now - at >= silence) socket.destroy(new Error("the connection to the store has been silent for too long"))
    }
  }
}

/** Connects once, so that a wrong address is known at once. */
export const open = (
  url: Redacted.Redacted
): Effect.Effect<{ readonly sql: SqlClient; readonly channel: Channel }, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const [Pg, Reactivity] = yield* importing(() =>
      Promise.all([
        import("@effect/sql-pg/PgClient").catch(absent),
        import("@effect/experimental/Reactivity").catch(absent)
      ])
    )
    const sockets = new Sockets()
    const client = Pg.make({
      stream: sockets.make,
      url: Redacted.make(withLimits(Redacted.value(url))),
      applicationName: "aicortex",
      maxConnections,
      connectTimeout,
      types: { getTypeParser: (oid: number) => parsers.get(oid) ?? asText }
    })
    const sql = yield* Effect.provideServiceEffect(client, Reactivity.Reactivity, Reactivity.make)
    const channel: Channel = {
      send: (text) => Effect.asVoid(sql`SELECT pg_notify(${channelName}, ${text})`),
      listen: (hear) => Stream.runForEach(sql.listen(channelName), (text) => Effect.sync(() => hear(text))),
      dropSilent: (silence) => sockets.dropSilent(silence)
    }
    return { sql, channel }
  })
