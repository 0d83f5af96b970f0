/** Runs `aicortex best`. */
import * as Effect from "effect/Effect"
import type { Routing } from "../../ChatRequest.js"
import * as ModelSelection from "../../ModelSelection.js"
import * as Registry from "../../Registry.js"
import { noAddress } from "../errors.js"
import * as Fleet from "../fleetLayer.js"
import * as Output from "../output.js"

/** How long the lists of all servers are waited for: a call would take the first that has the model instead. */
const listsTimeout = "2 seconds"

export const run = (model: string, strategy: Routing, json: boolean) =>
  Effect.gen(function* () {
    const { servers } = yield* Registry.Registry
    yield* Effect.timeoutOption(servers, listsTimeout)
    const best = yield* ModelSelection.bestServer(model, strategy)
    if (!json && best.protocol === "embedded") return yield* noAddress()
    yield* json ? Output.writeJson(best) : Output.writeLine(`${best.url}\n`)
  }).pipe(Effect.provide(Fleet.layer))
