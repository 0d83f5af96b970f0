/**
 * The servers that are reachable, and what goes wrong with them.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { ModelInfo } from "../../Model.js"
import type { Server } from "../../Server.js"
import * as Ask from "../ask.js"
import type * as Control from "../control.js"
import type * as Fields from "../fields.js"
import type { House } from "../house.js"
import { make, type Problem, refuse } from "../problem.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface Known {
  readonly server: Server
  readonly label: string
  readonly ollama: boolean
  readonly models: ReadonlyArray<string>
}

/**
 * @since 0.1.0
 * @category accessors
 */
export const servers = async (house: House): Promise<ReadonlyArray<Known>> => {
  const all = await house.library.run(house.library.servers).result
  return all
    .filter(({ status }) => status.reachable)
    .map(({ server, status }) => ({
      server,
      label: house.labels.label(server.url),
      ollama: (status.protocol ?? "ollama") === "ollama",
      models: status.models
    }))
}

/**
 * @since 0.1.0
 * @category accessors
 */
export const infoOf = (house: House, model: string): Promise<ModelInfo | undefined> =>
  house.library.run(Effect.orElseSucceed(house.library.registry.modelInfo(model), () => undefined)).result

/**
 * The model of a request, under either of its names.
 *
 * @since 0.1.0
 * @category readers
 */
export const nameOf = (body: Fields.Fields): string => {
  const name = Ask.model(body) ?? Ask.model(body, "name") ?? ""
  return name.trim() === "" ? refuse("model", "is required") : name
}

/**
 * What a server's refusal is to the client.
 *
 * @since 0.1.0
 * @category constructors
 */
export const failed = (house: House, { failure }: Control.ControlFailed): Problem =>
  make(
    failure.reason === "invalid-request"
      ? 400
      : failure.status === 404 || failure.reason === "model-not-found"
        ? 404
        : 502,
    house.labels.redact(failure.message)
  )
