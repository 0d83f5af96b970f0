/** Where the supervisor keeps its socket, its state and the logs of engines. */
import { createHash } from "node:crypto"
import { tmpdir, userInfo } from "node:os"
import { join } from "node:path"
import * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import { localFolder } from "../config/file.js"

/** Longer addresses of sockets are refused by the system: 104 bytes on macOS with the end, 108 on Linux. */
const maxSocketPath = 100

export interface Paths {
  /** The folder of all the others; only its user may enter. */
  readonly folder: string
  /** The folder of the socket. */
  readonly socketFolder: string
  readonly socket: string
  /** What runs, as JSON: for other processes, and for the next supervisor. */
  readonly state: string
  readonly logs: string
  /** The log of the supervisor itself. */
  readonly log: string
}

const socketIn = (folder: string, name: string) => ({ socketFolder: folder, socket: join(folder, name) })

/** A path that is short enough: in the folder itself, else in a folder of the user's for such things. */
const socketOf = (folder: string) => {
  const own = socketIn(folder, "supervisor.sock")
  if (Buffer.byteLength(own.socket) <= maxSocketPath) return own
  const name = createHash("sha256").update(folder).digest("hex").slice(0, 16)
  const runtime = process.env["XDG_RUNTIME_DIR"]
  const short =
    runtime === undefined || runtime === "" ? undefined : socketIn(join(runtime, "aicortex"), `${name}.sock`)
  if (short !== undefined && Buffer.byteLength(short.socket) <= maxSocketPath) return short
  const { uid, username } = userInfo()
  const last = socketIn(join(tmpdir(), `aicortex-${uid === -1 ? username : uid}`), `${name}.sock`)
  return Buffer.byteLength(last.socket) <= maxSocketPath ? last : socketIn(`/tmp/aicortex-${uid}`, `${name}.sock`)
}

/** The paths of this user, from the environment. */
export const paths: Effect.Effect<Paths, never, Path.Path> = Effect.gen(function* () {
  const path = yield* Path.Path
  const folder = path.resolve(yield* localFolder)
  return {
    folder,
    ...(process.platform === "win32"
      ? { socketFolder: folder, socket: `\\\\.\\pipe\\aicortex-${createHash("sha256").update(folder).digest("hex")}` }
      : socketOf(folder)),
    state: join(folder, "state.json"),
    logs: join(folder, "logs"),
    log: join(folder, "supervisor.log")
  }
})

/** The log of a model's engines; a name never leaves the folder. */
export const logOf = ({ logs }: Pick<Paths, "logs">, model: string): string =>
  join(logs, `${encodeURIComponent(model).replace(/^\./, "%2E").slice(0, 200)}.log`)
