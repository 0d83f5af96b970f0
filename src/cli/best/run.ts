/** Runs `aicortex best`. */
import * as Effect from "effect/Effect"
import type { Routing } from "../../ChatRequest.js"
import * as ModelSelection from "../../ModelSelection.js"
import { noAddress } from "../errors.js"
import * as Fleet from "../fleetLayer.js"
import * as Output from "../output.js"

export const run = (model: string, strategy: Routing, json: boolean) =>
  Effect.gen(function* () {
    const best = yield* ModelSelection.bestServer(model, strategy)
    if (!json && best.protocol === "embedded") return yield* noAddress()
    yield* json ? Output.writeJson(best) : Output.writeLine(`${best.url}\n`)
  }).pipe(Effect.provide(Fleet.layer))
