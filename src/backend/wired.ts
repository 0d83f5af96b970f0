/** The backend of each protocol over a transport. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { type Backend, Backends } from "../Backend.js"
import type { Protocol } from "../Server.js"
import { Transport } from "../Transport.js"
import * as Anthropic from "./anthropic.js"
import * as Ollama from "./ollama.js"
import * as OpenAI from "./openai.js"

/** All of them with this one for the engine in the process. */
export const layer = (embedded: Effect.Effect<Backend, never, Scope.Scope>): Layer.Layer<Backends, never, Transport> =>
  Layer.scoped(
    Backends,
    Effect.gen(function* () {
      const transport = yield* Transport
      const clock = yield* Effect.clock
      const now = () => clock.unsafeCurrentTimeMillis()
      const backends: { readonly [P in Protocol]: Backend } = {
        ollama: Ollama.make(transport, now),
        openai: OpenAI.make(transport, now),
        anthropic: Anthropic.make(transport, now),
        embedded: yield* embedded
      }
      return Backends.of({ get: (protocol) => backends[protocol] })
    })
  )
