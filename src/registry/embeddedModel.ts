/** The model of the engine inside this process. */
import * as Context from "effect/Context"
import * as Model from "../Model.js"
import * as Server from "../Server.js"

export interface EmbeddedModelInfo {
  /** What is known of it: more once it is loaded. */
  readonly info: () => Model.ModelInfo
  /** How many requests it answers at the same time. */
  readonly slots: number
  /** Whether this process serves nothing else. */
  readonly dedicated: boolean
}

/** The default number of concurrent requests of the engine. */
export const defaultSlots = 4

/** The one that this package brings. */
export const builtIn: EmbeddedModelInfo = { info: () => Model.demoInfo, slots: defaultSlots, dedicated: false }

/** Default: the built-in model. */
export class EmbeddedModel extends Context.Reference<EmbeddedModel>()("aicortex/Registry/EmbeddedModel", {
  defaultValue: (): EmbeddedModelInfo => builtIn
}) {}

/** Where it runs. */
export const hostsOf = ({ info, slots }: EmbeddedModelInfo): ReadonlyArray<Server.Host> => [
  {
    server: { ...Server.embedded, maxInFlight: slots },
    protocol: "embedded",
    model: info().model_name,
    certain: true,
    performance: undefined
  }
]
