/** Which server a load test is for. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { InvalidRequest } from "../../Errors.js"
import { fromOptions, type Server, type ServerOptions } from "../../Server.js"

/**
 * The server that is named. One of the settings has its key, headers and protocol, unless an own key or headers are given;
 * any other is asked as an OpenAI-compatible one unless it says otherwise.
 */
export const targetOf = (
  given: string | ServerOptions,
  known: ReadonlyArray<Server>
): Effect.Effect<Server, InvalidRequest> =>
  Either.match(fromOptions(given, "the load test"), {
    onLeft: ({ reason }) => Effect.fail(new InvalidRequest({ field: "server", reason })),
    onRight: (server) => {
      const same = typeof given === "string" ? known.find(({ url }) => url === server.url) : undefined
      const { authorization } = server
      const target = same === undefined || authorization !== undefined ? server : same
      return Effect.succeed({ ...target, protocol: target.protocol ?? "openai" })
    }
  })
