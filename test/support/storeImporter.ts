// Takes the conversations of a session folder into a store, and tells when it begins and when it has ended:
// ADDRESS FOLDER
import { writeSync } from "node:fs"
import * as NodeContext from "@effect/platform-node/NodeContext"
import { Store } from "aicortex"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { importFolder } from "../../src/sessions/folderImport.js"

const [address = "", folder = ""] = process.argv.slice(2)

await Effect.runPromise(
  Effect.scoped(
    Effect.gen(function* () {
      const store = yield* Store.make(address)
      yield* store.open
      writeSync(1, "begins\n")
      yield* importFolder(store, folder)
      writeSync(1, "ends\n")
    })
  ).pipe(Effect.provide([NodeContext.layer, Logger.remove(Logger.defaultLogger)]))
)
