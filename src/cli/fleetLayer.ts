/** The fleet of the command line: the user's settings, and folders of its own. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Cortex from "../Cortex.js"
import type { InvalidConfig } from "../Errors.js"
import * as Sessions from "../Sessions.js"
import { CurrentSettings } from "../Settings.js"
import { orInMemory } from "../sessions/fallback.js"
import { layerOf } from "./knownLayer.js"
import * as Output from "./output.js"

/** Conversations in the store; where nobody has named one and there can be none, a new one is in memory, and a line says so. */
const sessionsOfChat = Layer.scoped(
  Sessions.SessionStore,
  Effect.gen(function* () {
    const settings = yield* CurrentSettings
    const store = yield* Cortex.makeStore(settings)
    const kept = yield* Cortex.makeSessionStore(settings.sessions, store)
    if (store === undefined || settings.isDefaultStore !== true || settings.sessions.inMemory === true) return kept
    const memory = yield* Sessions.makeStoreMemory(settings.sessions)
    return orInMemory(kept, memory, store.open, (reason) => Output.notice(`this conversation is not kept: ${reason}`))
  })
)

/**
 * Cached answers and learned server state are kept in files, and conversations in the store: a short-lived process would
 * forget them.
 */
export const layer = layerOf<Cortex.Services, InvalidConfig>((options) => Cortex.layer(options))

/** The same for a conversation that is held here, which needs no store. */
export const chatLayer = layerOf<Cortex.Services, InvalidConfig>((options) =>
  Cortex.layer<InvalidConfig>(options, { store: sessionsOfChat })
)
