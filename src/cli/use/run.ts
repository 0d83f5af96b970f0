/** Runs `aicortex use`. */
import * as Effect from "effect/Effect"
import { filePath } from "../../config/file.js"
import { ModelSelection } from "../../ModelSelection.js"
import { chainOf } from "../../modelSelection/aliases.js"
import { isAuto } from "../../modelSelection/candidate.js"
import { Registry } from "../../Registry.js"
import { CurrentSettings } from "../../Settings.js"
import { editFile } from "../config/editFile.js"
import { UsageError } from "../errors.js"
import * as Fleet from "../fleetLayer.js"
import * as Output from "../output.js"

/** Fails where the servers that answer do not have it; says why where none of them can be asked. */
const check = Effect.fnUntraced(function* (name: string) {
  const { aliases } = yield* CurrentSettings
  if (isAuto(name) || chainOf(aliases, name) !== undefined) return undefined
  const selection = yield* ModelSelection
  const registry = yield* Registry
  const unsure = (servers: ReadonlyArray<string>) => {
    if (servers.length === 0) return "no server is known"
    return `${servers.join(", ")} cannot be reached`
  }
  return yield* Effect.gen(function* () {
    const [candidate] = yield* selection.select(name)
    const hosts = yield* registry.locate(candidate?.model ?? name)
    return hosts.some(({ certain }) => certain) ? undefined : unsure(hosts.map(({ server }) => server.url))
  }).pipe(
    Effect.catchTag("NoServers", (error) => {
      const { servers, unreachable = [] } = error
      return servers.length === unreachable.length ? Effect.succeed(unsure(servers)) : Effect.fail(error)
    })
  )
})

export const run = (given: string) =>
  Effect.gen(function* () {
    const name = given.trim()
    if (name === "") return yield* new UsageError({ message: "MODEL must not be empty", command: ["use"] })
    const unsure = yield* check(name)
    const file = yield* filePath
    yield* editFile(file, (content) => ({ ...content, model: name }))
    yield* Output.write(`Calls that name no model ask ${name} from now on: it stands in ${file}.\n`)
    if (unsure !== undefined) yield* Output.notice(`it is not known yet whether ${name} is there: ${unsure}`)
    if (process.env["AICORTEX_MODEL"]?.trim()) {
      yield* Output.notice("AICORTEX_MODEL is set, and overrides the file")
    }
  }).pipe(Effect.provide(Fleet.layer))

/** Which model would answer. */
export const show = Effect.gen(function* () {
  const { model } = yield* CurrentSettings
  const [first] = yield* Effect.flatMap(ModelSelection, (selection) => selection.select(model))
  yield* Output.writeLine(`${first?.model ?? model}\n`)
  if (first?.auto === true) yield* Output.dimNotice(`it is chosen again for each call (${first.reason})`)
}).pipe(Effect.provide(Fleet.layer))
