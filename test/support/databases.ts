/**
 * The engines of stores for tests: SQLite, and a real PostgreSQL that the tests start where its programs are at hand
 * (on PATH, or where Debian's package has them). Where they are not, PGlite serves the same SQL over a socket, and the
 * names of the tests say so.
 */
import { execFileSync, spawn } from "node:child_process"
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import type { PGlite } from "@electric-sql/pglite"
import { Store } from "aicortex"
import * as Effect from "effect/Effect"
import { unusedPort } from "./ports.js"

/** An engine that runs. */
export interface Database {
  /** The address of a store that nobody has used yet. */
  readonly address: () => Promise<string>
  /** What holds the data ends now, and with it all connections; `start` starts it again. `undefined` where nothing can. */
  readonly outage: { readonly stop: () => Promise<void>; readonly start: () => Promise<void> } | undefined
  readonly close: () => Promise<void>
}

export interface Engine {
  readonly name: string
  readonly kind: "sqlite" | "postgres"
  /** Whether more than one process at a time may write without waiting for the whole store. */
  readonly start: () => Promise<Database>
}

const folders = (): ReadonlyArray<string> => {
  const debian = "/usr/lib/postgresql"
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : []
  return [
    ...(process.env["PATH"] ?? "").split(delimiter).filter((folder) => folder !== ""),
    ...versions.map((version) => join(debian, version, "bin"))
  ]
}

/** `AICORTEX_TEST_PGLITE=1` tests as on a machine without PostgreSQL. */
const programs =
  process.env["AICORTEX_TEST_PGLITE"] === "1"
    ? undefined
    : folders().find((folder) => ["initdb", "postgres"].every((name) => existsSync(join(folder, name))))

/** PostgreSQL refuses to run as root. */
const unprivileged = (): { readonly uid?: number; readonly gid?: number } => {
  if (process.getuid?.() !== 0) return {}
  for (const name of ["postgres", "nobody"]) {
    try {
      const id = (flag: string) => Number(execFileSync("id", [flag, name], { encoding: "utf8" }))
      return { uid: id("-u"), gid: id("-g") }
    } catch {
      // There is no such user.
    }
  }
  return {}
}

const password = "pass%word-of:tests"
export const secretOfTests = encodeURIComponent(password)

const startPostgres = async (bin: string): Promise<Database> => {
  const home = mkdtempSync(join(tmpdir(), "aicortex-postgres-"))
  const user = unprivileged()
  const secret = join(home, "password")
  writeFileSync(secret, password)
  if (user.uid !== undefined && user.gid !== undefined) {
    chownSync(home, user.uid, user.gid)
    chownSync(secret, user.uid, user.gid)
  }
  const data = join(home, "data")
  const options = { ...user, cwd: home, stdio: "pipe" as const }
  execFileSync(
    join(bin, "initdb"),
    [
      "-D",
      data,
      "-U",
      "aicortex",
      "--auth=scram-sha-256",
      `--pwfile=${secret}`,
      "-N",
      "-E",
      "UTF8",
      "--locale=C.UTF-8"
    ],
    options
  )
  const port = await unusedPort()
  const url = (name: string) => `postgres://aicortex:${secretOfTests}@127.0.0.1:${port}/${name}`
  const settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "max_connections=150"]
  let server: ReturnType<typeof spawn> | undefined
  const start = async () => {
    server = spawn(
      join(bin, "postgres"),
      ["-D", data, "-p", String(port), ...settings.flatMap((setting) => ["-c", setting])],
      { ...options, stdio: ["ignore", "ignore", "pipe"] }
    )
    let log = ""
    await new Promise<void>((resolve, reject) => {
      server?.stderr?.on("data", (text: Buffer) => {
        log += text
        if (log.includes("database system is ready to accept connections")) resolve()
      })
      server?.once("exit", (code) => reject(new Error(`postgres ended (${code}): ${log}`)))
    })
  }
  const stop = () =>
    new Promise<void>((resolve) => {
      if (server === undefined || server.exitCode !== null) return resolve()
      server.once("exit", () => resolve())
      // Fast shutdown: connections are ended.
      server.kill("SIGINT")
    })
  await start()
  let count = 0
  return {
    address: async () => {
      const name = `t${count++}`
      await Effect.runPromise(
        Effect.scoped(
          Effect.flatMap(Store.make(url("postgres")), ({ use }) => use((sql) => sql.unsafe(`CREATE DATABASE ${name}`)))
        )
      )
      return url(name)
    },
    outage: { stop, start },
    close: async () => {
      await stop()
      rmSync(home, { recursive: true, force: true })
    }
  }
}

/** What ends what a client asks for at once: Sync, Query, Terminate, a password; the first message has no type. */
const isLast = (type: number | undefined) => type === 0 || "SQXp".includes(String.fromCharCode(type ?? 0))

/**
 * The socket server takes the next message of any connection where no transaction runs, also between Parse and Bind of
 * another one, which then has no statement. With this it stays with a connection until the messages end.
 */
const inSequence = (db: PGlite): PGlite => {
  let isOpen = false
  const own: { readonly [name: string | symbol]: unknown } = {
    isInTransaction: () => isOpen || db.isInTransaction(),
    execProtocolRawStream: (...args: Parameters<PGlite["execProtocolRawStream"]>) => {
      isOpen = !isLast(args[0][0])
      return db.execProtocolRawStream(...args)
    }
  }
  return new Proxy(db, {
    get: (target, name) => {
      const value: unknown = own[name] ?? Reflect.get(target, name, target)
      return typeof value === "function" ? value.bind(target) : value
    }
  })
}

const startPGlite = async (): Promise<Database> => {
  const [{ PGlite }, { PGLiteSocketServer }] = await Promise.all([
    import("@electric-sql/pglite"),
    import("@electric-sql/pglite-socket")
  ])
  const stops: Array<() => Promise<unknown>> = []
  return {
    address: async () => {
      const db = await PGlite.create()
      const port = await unusedPort()
      const server = new PGLiteSocketServer({ db: inSequence(db), port, host: "127.0.0.1", maxConnections: 100 })
      await server.start()
      stops.push(async () => {
        await server.stop()
        await db.close()
      })
      return `postgres://postgres:${secretOfTests}@127.0.0.1:${port}/postgres`
    },
    outage: undefined,
    close: async () => {
      for (const stop of stops.splice(0)) await stop()
    }
  }
}

const startSqlite = async (): Promise<Database> => {
  const home = mkdtempSync(join(tmpdir(), "aicortex-sqlite-"))
  let count = 0
  return {
    address: async () => join(home, `store ${count++}.db`),
    outage: undefined,
    close: async () => rmSync(home, { recursive: true, force: true })
  }
}

export const engines: ReadonlyArray<Engine> = [
  { name: "SQLite", kind: "sqlite", start: startSqlite },
  programs === undefined
    ? { name: "PGlite (there is no PostgreSQL here)", kind: "postgres", start: startPGlite }
    : { name: "PostgreSQL", kind: "postgres", start: () => startPostgres(programs) }
]
