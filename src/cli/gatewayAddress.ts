/** The gateway that a command is about: its address, and the one that `aicortex serve` has with the settings of now. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import { place, readFile } from "../config/file.js"
import { resolvePlaces } from "../config/gatewaySettings.js"
import { environment } from "../cortex/environment.js"
import { normalizeUrl } from "../Server.js"

/** The usual port of a gateway. */
const defaultPort = 8000

/** An address without a path of an API, or what is wrong with it. Without a scheme it is HTTP. */
export const gatewayUrl = (input: string): Either.Either<string, string> => {
  const bare = !/^[a-z][a-z0-9+.-]*:\/\//i.test(input.trim())
  return Either.map(normalizeUrl(bare ? `http://${input.trim()}` : input), (url) => {
    if (bare && url.port === "") url.port = String(defaultPort)
    url.username = ""
    url.password = ""
    // Programs append the version themselves.
    url.pathname = url.pathname.replace(/\/v1\/?$/, "")
    return url.href.replace(/\/+$/, "")
  })
}

const hostOf = (host: string): string => {
  // A gateway that listens at every address is reached at this machine's own.
  if (host === "0.0.0.0") return "127.0.0.1"
  if (host === "::") return "[::1]"
  return host.includes(":") ? `[${host}]` : host
}

/** Where `aicortex serve` would listen with the settings of now, and the most powerful key of those that they name. */
export const ownGateway = Effect.gen(function* () {
  const { named, path } = yield* place(undefined)
  const { gateway } = yield* readFile(path, named)
  const { settings } = yield* resolvePlaces({ insecure: true }, { variable: environment, file: gateway ?? {}, path })
  const { host, keys, port } = settings
  const key = keys.find(({ admin }) => admin) ?? keys[0]
  return {
    url: `http://${hostOf(host)}:${port === 0 ? defaultPort : port}`,
    key: key === undefined ? undefined : Redacted.value(key.secret)
  }
})

/** What the name of an environment variable looks like. */
export const isVariableName = (name: string): boolean => /^[A-Za-z_][A-Za-z0-9_]*$/.test(name)
