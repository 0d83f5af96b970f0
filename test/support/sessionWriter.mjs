// Says `count` things in a conversation of a folder that other processes write to: node sessionWriter.mjs FOLDER ID NAME COUNT
import * as NodeContext from "@effect/platform-node/NodeContext"
import { SessionFolder } from "aicortex"
import { Effect, Option } from "effect"

const [folder = "", id = "", name = "", count = ""] = process.argv.slice(2)

const store = await Effect.runPromise(Effect.provide(SessionFolder.make({ folder }), NodeContext.layer))
for (let i = 0; i < Number(count); i++) {
  const messages = [
    { role: "user", content: `${name}${i}` },
    { role: "assistant", content: `re: ${name}${i}` }
  ]
  while (true) {
    const { version } = Option.getOrThrow(await Effect.runPromise(store.load(id)))
    if (await Effect.runPromise(store.append(id, version, messages))) break
  }
}
