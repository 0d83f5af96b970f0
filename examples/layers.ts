/** A service of your own on top of `Chat`, with the fleet as a layer, and one part of the fleet replaced. */
import { Chat, Cortex, Sessions } from "aicortex"
import { Console, Context, Effect, Layer } from "effect"

class Assistant extends Context.Tag("Assistant")<
  Assistant,
  { readonly ask: (question: string) => Effect.Effect<string> }
>() {
  static readonly layer = Layer.effect(
    Assistant,
    Effect.gen(function* () {
      const chat = yield* Chat.Chat
      const sessions = yield* Sessions.Sessions
      const session = yield* sessions.create()
      return {
        ask: (question) =>
          chat.text(question, { session, temperature: 0 }).pipe(
            Effect.catchTag("Overloaded", () => Effect.succeed("Ask me again in a moment.")),
            Effect.orDie
          )
      }
    })
  )
}

const program = Effect.gen(function* () {
  const assistant = yield* Assistant
  yield* assistant.ask("My name is Alice.")
  yield* Console.log(yield* assistant.ask("What is my name?"))
})
// => Your name is Alice.

// Only the last ten conversations are kept.
const fleet = Cortex.layer({ model: "aicortex-demo" }, { store: Sessions.layerStoreMemory({ maxSessions: 10 }) })

await Effect.runPromise(program.pipe(Effect.provide(Layer.provide(Assistant.layer, fleet))))
