/** The files of a supervisor, in a folder of its own. */
import { createHash } from "node:crypto"
import { chmodSync, lstatSync } from "node:fs"
import { tmpdir, userInfo } from "node:os"
import { join, resolve } from "node:path"
import { environment } from "../cortex/environment.js"
import { makeFolderSync } from "../internal/makeFolderSync.js"

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

/** The files of the supervisor whose folder this is. */
export const pathsIn = (folder: string): Paths => ({
  folder,
  ...(process.platform === "win32"
    ? { socketFolder: folder, socket: `\\\\.\\pipe\\aicortex-${createHash("sha256").update(folder).digest("hex")}` }
    : socketOf(folder)),
  state: join(folder, "state.json"),
  logs: join(folder, "logs"),
  log: join(folder, "supervisor.log")
})

/** Those of this user: `localFolder` of the configuration, for code without Effect. */
export const pathsOfUser = (): Paths => {
  const home = environment("HOME") ?? environment("USERPROFILE") ?? "."
  const base = environment("XDG_STATE_HOME") ?? join(home, ".local", "state")
  return pathsIn(resolve(join(base, "aicortex", "local")))
}

/** A folder that only its user may enter; the error says so if it belongs to another user. */
export const ownFolder = (folder: string): string | undefined => {
  makeFolderSync(folder, 0o700)
  if (process.platform === "win32") return undefined
  const found = lstatSync(folder)
  if (!found.isDirectory()) return `${folder} is no folder`
  if (process.getuid !== undefined && found.uid !== process.getuid()) return `${folder} belongs to another user`
  if ((found.mode & 0o077) !== 0) chmodSync(folder, 0o700)
  return undefined
}
