// Takes the conversations of a session folder into a store, and tells when it begins, when it has ended, and how often it
// has turned to the store. With KILL_AT it kills itself PAUSE milliseconds after it did so that often:
// ADDRESS FOLDER [KILL_AT PAUSE]
import { writeSync } from "node:fs"
import * as NodeContext from "@effect/platform-node/NodeContext"
import { Store } from "aicortex"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { importFolder } from "../../src/sessions/folderImport.js"

const [address = "", folder = "", killAt, pause] = process.argv.slice(2)

let uses = 0
const use = (): void => {
  if (uses++ === Number(killAt)) setTimeout(() => process.kill(process.pid, "SIGKILL"), Number(pause))
}
/** The same store, whose uses are counted. */
const counted = (store: Store.Service): Store.Service => ({
  ...store,
  use: (run) => Effect.zipRight(Effect.sync(use), store.use(run)),
  transaction: (run) => Effect.zipRight(Effect.sync(use), store.transaction(run))
})

await Effect.runPromise(
  Effect.scoped(
    Effect.gen(function* () {
      const store = yield* Store.make(address)
      yield* store.open
      writeSync(1, "begins\n")
      yield* importFolder(counted(store), folder)
      writeSync(1, `ends after ${uses} uses\n`)
    })
  ).pipe(Effect.provide([NodeContext.layer, Logger.remove(Logger.defaultLogger)]))
)
