// Says `count` things in a conversation of a store that other processes write to, and tells each that is stored:
// ADDRESS ID NAME COUNT
import { writeSync } from "node:fs"
import { Message, Store } from "aicortex"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as SessionSql from "../../src/sessions/sql.js"

const [address = "", id = "", name = "", count = ""] = process.argv.slice(2)

await Effect.runPromise(
  Effect.scoped(
    Effect.gen(function* () {
      const sessions = yield* SessionSql.make(yield* Store.make(address))
      for (let i = 0; i < Number(count); i++) {
        const messages = [Message.user(`${name}${i}`), Message.assistant(`re: ${name}${i}`)]
        while (true) {
          const { version } = Option.getOrThrow(yield* sessions.load(id))
          if (yield* sessions.append(id, version, messages)) break
        }
        writeSync(1, `${name}${i}\n`)
      }
    })
  )
)
