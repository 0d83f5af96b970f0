/** The reachable servers, and the errors of those that fail. */
import * as Effect from "effect/Effect"
import type { ModelInfo } from "../../../Model.js"
import type { Target } from "../../../management/targets.js"
import type * as UpstreamControl from "../../../management/upstreamControl.js"
import type { GatewayContext } from "../../GatewayContext.js"
import type * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import { type ErrorResponse, make } from "../../http/errorResponse.js"
import * as Go from "./goFields.js"
import * as Validation from "./validation.js"

export interface KnownServer extends Target {
  readonly label: string
}

export const servers = async (gateway: GatewayContext): Promise<ReadonlyArray<KnownServer>> => {
  const all = await gateway.library.run(gateway.library.servers).result
  return all
    .filter(({ status }) => status.reachable || status.models.length > 0)
    .map(({ server, status }) => ({
      server,
      label: gateway.labels.label(server.url),
      ollama: (status.protocol ?? "ollama") === "ollama",
      models: status.models
    }))
}

export const infoOf = (gateway: GatewayContext, model: string): Promise<ModelInfo | undefined> =>
  gateway.library.run(Effect.orElseSucceed(gateway.library.registry.modelInfo(model), () => undefined)).result

const { read } = Body.struct(Go.named)

/** The model of a request, under either of its field names. `missing` is Ollama's message if there is none. */
export const nameOf = (body: BodyFields.Fields, missing: string): string => {
  const name = (read.model(body) || read.name(body)) ?? ""
  if (name.trim() === "") Validation.refuse(400, missing, "missing_required_parameter", "model")
  return name
}

/** Which statuses are passed on: that the gateway lacks access to a server is not the client's error. */
const isReported = (status: number): boolean => status >= 400 && status < 600 && status !== 401 && status !== 403

/** A server's error as passed on to the client, with its text and status. */
export const serverError = (gateway: GatewayContext, { failure }: UpstreamControl.UpstreamFailed): ErrorResponse => {
  const { message, reason, status } = failure
  const statusForClient =
    reason === "model-not-found"
      ? 404
      : reason === "invalid-request"
        ? 400
        : status !== undefined && isReported(status)
          ? status
          : 502
  return make(statusForClient, gateway.labels.redact(message))
}
