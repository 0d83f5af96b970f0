/** Where the supervisor keeps its socket, its state and the logs of engines. */
import { join } from "node:path"
import * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import { localFolder } from "../config/file.js"
import { type Paths, pathsIn } from "./layout.js"

export type { Paths } from "./layout.js"

/** The paths of this user, from the environment. */
export const paths: Effect.Effect<Paths, never, Path.Path> = Effect.gen(function* () {
  const path = yield* Path.Path
  return pathsIn(path.resolve(yield* localFolder))
})

/** The log of a model's engines; a name never leaves the folder. */
export const logOf = ({ logs }: Pick<Paths, "logs">, model: string): string =>
  join(logs, `${encodeURIComponent(model).replace(/^\./, "%2E").slice(0, 200)}.log`)
