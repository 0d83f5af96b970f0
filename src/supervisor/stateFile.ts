/** What a supervisor holds, in a file: for the other processes of the user, and for the next supervisor. */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import { Status } from "../LocalModels.js"
import type { Paths } from "./layout.js"
import { killGroup } from "./processes.js"

const decode = Schema.decodeUnknownEither(Schema.parseJson(Status))

/** Replaces the file as a whole. */
export const write = ({ state }: Paths, status: Status): void => {
  const temporary = `${state}.${process.pid}.tmp`
  writeFileSync(temporary, JSON.stringify(status), { mode: 0o600 })
  renameSync(temporary, state)
}

/** What the file says; `undefined` where there is none that can be read. */
export const read = ({ state }: Pick<Paths, "state">): Status | undefined => {
  try {
    return Either.getOrUndefined(decode(readFileSync(state, "utf8")))
  } catch {
    return undefined
  }
}

export const remove = ({ state }: Paths): void => rmSync(state, { force: true })

/** Ends engines that a supervisor before this one has left behind, and removes its file. Returns how many there were. */
export const reconcile = async (paths: Paths): Promise<number> => {
  const before = read(paths)
  let ended = 0
  for (const { engines } of before?.models ?? []) {
    for (const { pid, processStart } of engines) {
      if (pid !== null && processStart !== null && (await killGroup(pid, processStart))) ended++
    }
  }
  remove(paths)
  return ended
}
