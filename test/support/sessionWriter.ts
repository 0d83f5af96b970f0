// Says `count` things in a conversation of a folder that other processes write to: FOLDER ID NAME COUNT
import * as NodeContext from "@effect/platform-node/NodeContext"
import { Message, SessionFolder } from "aicortex"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

const [folder = "", id = "", name = "", count = ""] = process.argv.slice(2)

const store = await Effect.runPromise(Effect.provide(SessionFolder.make({ folder }), NodeContext.layer))
for (let i = 0; i < Number(count); i++) {
  const messages = [Message.user(`${name}${i}`), Message.assistant(`re: ${name}${i}`)]
  while (true) {
    const { version } = Option.getOrThrow(await Effect.runPromise(store.load(id)))
    if (await Effect.runPromise(store.append(id, version, messages))) break
  }
}
