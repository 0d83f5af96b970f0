/** The reachable servers, and the errors of those that fail. */
import * as Effect from "effect/Effect"
import type { ModelInfo } from "../../../Model.js"
import type { Server } from "../../../Server.js"
import type { GatewayContext } from "../../GatewayContext.js"
import * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import { type ErrorResponse, make } from "../../http/errorResponse.js"
import * as UpstreamControl from "../../pipeline/upstreamControl.js"
import * as Go from "./goFields.js"
import * as Validation from "./validation.js"

/** Timeout of a list request, in milliseconds: a dead server must not delay the others. */
export const listTimeout = 3_000

export interface KnownServer {
  readonly server: Server
  readonly label: string
  readonly ollama: boolean
  readonly models: ReadonlyArray<string>
}

export const servers = async (gateway: GatewayContext): Promise<ReadonlyArray<KnownServer>> => {
  const all = await gateway.library.run(gateway.library.servers).result
  return all
    .filter(({ status }) => status.reachable)
    .map(({ server, status }) => ({
      server,
      label: gateway.labels.label(server.url),
      ollama: (status.protocol ?? "ollama") === "ollama",
      models: status.models
    }))
}

export const infoOf = (gateway: GatewayContext, model: string): Promise<ModelInfo | undefined> =>
  gateway.library.run(Effect.orElseSucceed(gateway.library.registry.modelInfo(model), () => undefined)).result

const listOf = (body: BodyFields.Fields): ReadonlyArray<BodyFields.Fields> =>
  (Array.isArray(body["models"]) ? (body["models"] as ReadonlyArray<unknown>) : []).filter(BodyFields.isObject)

/** Asks every Ollama server. Whoever fails has nothing to say but why (`problem`), and others are not asked. */
export const fromAll = async (gateway: GatewayContext, all: ReadonlyArray<KnownServer>, path: string) =>
  Promise.all(
    all.map(async (known) => {
      if (!known.ollama) return { known, models: undefined, problem: undefined }
      try {
        const body = await UpstreamControl.json(gateway.library.transport, known.server, {
          method: "GET",
          path,
          timeout: listTimeout
        })
        return { known, models: listOf(body), problem: undefined }
      } catch (error) {
        if (error instanceof UpstreamControl.UpstreamFailed) return { known, models: undefined, problem: error.message }
        throw error
      }
    })
  )

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
  const told =
    reason === "model-not-found"
      ? 404
      : reason === "invalid-request"
        ? 400
        : status !== undefined && isReported(status)
          ? status
          : 502
  return make(told, gateway.labels.redact(message))
}
