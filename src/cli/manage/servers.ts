/** The servers that the user gave, for commands about the models on them. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { Target } from "../../management/targets.js"
import { UpstreamFailed } from "../../management/upstreamControl.js"
import { Registry, type ServerStatus } from "../../Registry.js"
import type { Protocol } from "../../Server.js"
import * as Server from "../../Server.js"
import { CurrentSettings } from "../../Settings.js"
import { addServer, CommandFailed, UsageError } from "../errors.js"

/** A server, what it speaks, and whether it answers. */
export interface ManagedServer extends Target {
  readonly url: string
  readonly protocol: Protocol | undefined
  readonly reachable: boolean
  /** Why it is not reachable; completes "the server …". */
  readonly problem: string
  /** Whether the user configured it: servers known only from registry files are listed but not managed. */
  readonly own: boolean
}

/** The error if no server is known. */
const noServer = () => new CommandFailed({ message: `no server is known; add one with ${addServer}` })

/** What the user may do with a server of this status. */
export const managed = Effect.map(CurrentSettings, ({ servers }) => {
  const configured = new Map(servers.map((server) => [server.url, server]))
  return ({ api, models, problem = "does not answer", protocol, reachable, url }: ServerStatus): ManagedServer => {
    const own = configured.get(url)
    const server = { ...(own ?? Server.embedded), url, api, protocol }
    const ollama = own !== undefined && reachable && protocol === "ollama"
    return { url, server, protocol, reachable, problem, models, own: own !== undefined, ollama }
  }
})

/** Discovers every server. Fails if there is none. */
export const servers = Effect.gen(function* () {
  const registry = yield* Registry
  const statuses = yield* registry.servers
  if (statuses.length === 0) return yield* noServer()
  return statuses.map(yield* managed)
})

const list = (reasons: ReadonlyArray<string>): string =>
  reasons.length === 1 ? ` ${reasons[0]}` : reasons.map((reason) => `\n  - ${reason}`).join("")

/** Fails, with the reason of each, unless one of them is reachable. */
export const reached = (
  all: ReadonlyArray<Pick<ServerStatus, "url" | "reachable" | "problem">>
): Effect.Effect<void, CommandFailed> => {
  if (all.some(({ reachable }) => reachable)) return Effect.void
  const [first, ...others] = all
  if (first === undefined) return Effect.fail(noServer())
  const why = ({ problem = "does not answer" }: typeof first) => problem
  const message =
    others.length === 0
      ? `${first.url} does not tell its models: it ${why(first)}`
      : `no server reports its models:${list(all.map((one) => `${one.url} ${why(one)}`))}`
  return Effect.fail(new CommandFailed({ message }))
}

/** Display names of the protocols. */
export const protocolName = (protocol: Protocol | undefined): string =>
  protocol === "anthropic" ? "Anthropic's protocol" : "the OpenAI protocol"

/** Why a server does not support an Ollama-only operation; completes "URL …". `what` completes "cannot be told to …". */
export const unable = ({ own, problem, protocol, reachable }: ManagedServer, what: string): string => {
  if (!reachable) return problem
  return own
    ? `speaks ${protocolName(protocol)}, which cannot ${what}`
    : `is named by a registry file only: name it in your servers to ${what} there`
}

/** The error if none of them can. */
export const noneCan = (all: ReadonlyArray<ManagedServer>, what: string): CommandFailed =>
  new CommandFailed({
    message: `no server can ${what}:${list(all.map((server) => `${server.url} ${unable(server, what)}`))}`
  })

/** The servers that support the operation, or the reason why none does. */
export const able = (
  all: ReadonlyArray<ManagedServer>,
  what: string
): Effect.Effect<readonly [ManagedServer, ...ReadonlyArray<ManagedServer>], CommandFailed> => {
  const [first, ...others] = all.filter(({ ollama }) => ollama)
  if (first !== undefined) return Effect.succeed([first, ...others])
  return Effect.fail(noneCan(all, what))
}

const matches = (url: string, wanted: string): boolean => {
  const given = Either.getOrUndefined(Server.normalizeUrl(wanted))
  if (given !== undefined && `${given.origin}${given.pathname}`.replace(/\/+$/, "") === url) return true
  const { host, hostname } = new URL(url)
  return host === wanted.toLowerCase() || hostname === wanted.toLowerCase()
}

/** The servers that `--server` names, by address, host or host and port; all if it names none. */
export const chosen = Effect.fnUntraced(function* (
  all: ReadonlyArray<ManagedServer>,
  wanted: ReadonlyArray<string>
): Effect.fn.Return<ReadonlyArray<ManagedServer>, CommandFailed> {
  if (wanted.length === 0) return all
  const found = new Set<ManagedServer>()
  for (const name of wanted) {
    const exact = all.filter(({ url }) => url === name.replace(/\/+$/, ""))
    const some = exact.length > 0 ? exact : all.filter(({ url }) => matches(url, name))
    const [one, ...others] = some
    const shown = Server.redactUserInfo(name)
    if (one === undefined) {
      const urls = all.map(({ url }) => url).join(", ")
      return yield* new CommandFailed({ message: `there is no server '${shown}'; there are ${urls}` })
    }
    if (others.length > 0) {
      const urls = some.map(({ url }) => url).join(", ")
      return yield* new CommandFailed({ message: `'${shown}' may be any of ${urls}: name one with its port` })
    }
    found.add(one)
  }
  return all.filter((server) => found.has(server))
})

/** The model of a command: a name that a server may have, and no alias. */
export const modelName = Effect.fnUntraced(function* (
  command: string,
  model: string
): Effect.fn.Return<string, UsageError | CommandFailed, CurrentSettings> {
  if (model.trim() === "" || /\s/.test(model)) {
    return yield* new UsageError({ message: `MODEL must be the name of a model, not '${model}'`, command: [command] })
  }
  const { aliases } = yield* CurrentSettings
  const models = aliases.get(model)
  if (models === undefined) return model
  const message = `'${model}' is an alias of yours: name one of its models, ${models.join(", ")}`
  return yield* new CommandFailed({ message })
})

/** `--server` and `--all` contradict each other. */
export const exclusive = (command: string, wanted: ReadonlyArray<string>, all: boolean) =>
  all && wanted.length > 0
    ? Effect.fail(new UsageError({ message: "--server and --all exclude each other", command: [command] }))
    : Effect.void

/** A request to a server's API; fails with the server's error message. Interruption cancels the request. */
export const request = <A>(
  start: (onStop: (stop: () => void) => void) => Promise<A>
): Effect.Effect<A, UpstreamFailed> =>
  Effect.async((resume) => {
    let stop = () => {}
    start((how) => {
      stop = how
    }).then(
      (value) => resume(Effect.succeed(value)),
      (error: unknown) => resume(error instanceof UpstreamFailed ? Effect.fail(error) : Effect.die(error))
    )
    return Effect.sync(() => stop())
  })

/** The result of an operation on one server. */
export interface Outcome {
  readonly server: string
  readonly status: "done" | "failed"
  readonly message?: string
}

/** Fails if a server failed, and lists what succeeded. */
export const settled = (outcomes: ReadonlyArray<Outcome>, done: string, notDone: string) => {
  const failed = outcomes.filter(({ status }) => status === "failed")
  if (failed.length === 0) return Effect.void
  const urls = outcomes.flatMap(({ server, status }) => (status === "done" ? [server] : []))
  const reasons = failed.map(({ message = "failed", server }) => `${server}: ${message}`)
  const also = urls.length === 0 ? "" : `; ${done} ${urls.join(", ")}`
  return Effect.fail(new CommandFailed({ message: `${notDone}${also}:${list(reasons)}` }))
}
