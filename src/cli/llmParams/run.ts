/** Runs `aicortex llm-params`. */
import * as Effect from "effect/Effect"
import { canonical, demoModel } from "../../Model.js"
import { Registry } from "../../Registry.js"
import { noAddress } from "../errors.js"
import * as Fleet from "../fleetLayer.js"
import * as Output from "../output.js"

export const run = (name: string | undefined) =>
  Effect.gen(function* () {
    if (name !== undefined && canonical(name) === canonical(demoModel)) {
      return yield* noAddress()
    }
    const registry = yield* Registry
    const params = yield* name === undefined ? registry.randomLlmParams : registry.llmParams(name)
    yield* Output.writeJson(params)
  }).pipe(Effect.provide(Fleet.layer))
