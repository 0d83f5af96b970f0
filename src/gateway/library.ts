/** What the gateway uses of the library, as plain functions over one set of services. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Runtime from "effect/Runtime"
import * as Chat from "../Chat.js"
import type { Services } from "../Cortex.js"
import { engineOf } from "../chat/capability.js"
import type { Engine } from "../chat/execution.js"
import * as Failover from "../Failover.js"
import * as Fleet from "../Fleet.js"
import * as Direct from "../internal/direct.js"
import * as ModelSelection from "../ModelSelection.js"
import * as Registry from "../Registry.js"
import * as ResponseCache from "../ResponseCache.js"
import * as Router from "../Router.js"
import type { Host, Protocol, Server } from "../Server.js"
import * as Servers from "../Servers.js"
import * as Sessions from "../Sessions.js"
import { CurrentSettings, type Settings } from "../Settings.js"
import * as Transport from "../Transport.js"
import type { Labels } from "./http/errorResponse.js"
import * as Redaction from "./http/redaction.js"

/** A running Effect that can be cancelled. */
export interface RunningEffect<A> {
  readonly result: Promise<A>
  readonly stop: () => void
}

export class Library {
  readonly engine: Engine
  readonly failover: Failover.Service
  readonly cache: ResponseCache.Service
  readonly sessions: Sessions.Service
  readonly router: Router.Service
  readonly registry: Registry.Service
  readonly models: ModelSelection.Service
  readonly fleet: Fleet.Service
  readonly settings: Settings
  readonly transport: Transport.Service
  /** The engines of this machine. */
  readonly local: Servers.Service
  private readonly fork: <A, E>(effect: Effect.Effect<A, E>) => Fiber.RuntimeFiber<A, E>
  /** The protocol of each server, as far as it is known. */
  private readonly protocols = new Map<string, Protocol>()
  private readonly numbers = new Map<string, number>()

  constructor(runtime: Runtime.Runtime<Services>) {
    const { context } = runtime
    this.engine = engineOf(Context.get(context, Chat.Chat))
    this.failover = Context.get(context, Failover.Failover)
    this.cache = Context.get(context, ResponseCache.ResponseCache)
    this.sessions = Context.get(context, Sessions.Sessions)
    this.router = Context.get(context, Router.Router)
    this.registry = Context.get(context, Registry.Registry)
    this.models = Context.get(context, ModelSelection.ModelSelection)
    this.fleet = Context.get(context, Fleet.Fleet)
    this.settings = Context.get(context, CurrentSettings)
    this.local = Context.get(context, Servers.Servers)
    this.transport = Context.get(context, Transport.Transport)
    this.fork = Runtime.runFork(runtime)
    for (const { url } of this.settings.servers) this.number(url)
  }

  /** Runs an Effect. The promise rejects with its error. */
  run<A, E>(effect: Effect.Effect<A, E>): RunningEffect<A> {
    // Interruptible, whatever region the services were made in.
    const fiber = this.fork(Effect.interruptible(effect))
    const settled = fiber.unsafePoll()
    const of = (exit: Exit.Exit<A, E>): Promise<A> =>
      Exit.isSuccess(exit) ? Promise.resolve(exit.value) : Promise.reject(Cause.squash(exit.cause))
    return settled === null
      ? {
          result: new Promise((resolve) => fiber.addObserver((exit) => resolve(of(exit)))),
          stop: () => {
            this.fork(Fiber.interruptFork(fiber))
          }
        }
      : { result: of(settled), stop: () => {} }
  }

  private number(url: string): number {
    let number = this.numbers.get(url)
    if (number === undefined) {
      number = this.numbers.size + 1
      this.numbers.set(url, number)
    }
    return number
  }

  /** Short labels for servers whose addresses must not be shown. */
  labels(expose: boolean): Labels {
    // A server's API key is never shown, even if the server echoes it.
    const secrets = this.settings.servers
      .flatMap(({ authorization, headers = {} }) => [
        ...(authorization === undefined ? [] : [Redacted.value(authorization).replace(/^\w+ +/, "")]),
        // A short secret is only redacted as a whole word.
        ...Object.values(headers)
          .map(Redacted.value)
          .filter((value) => value.length > 5)
      ])
      .filter((one) => one !== "")
    const redaction = Redaction.make({ expose, secrets, urls: this.settings.servers.map(({ url }) => url) })
    return {
      expose,
      label: (url) => (url === "embedded:" ? "embedded" : expose ? url : `server-${this.number(url)}`),
      redactMessage: redaction.redactMessage,
      redact: redaction.words
    }
  }

  /** Records the protocols of a model's servers. */
  readonly locate = (model: string) =>
    Effect.tap(this.serversOf(model), (hosts) => {
      for (const host of hosts) this.protocols.set(host.server.url, host.protocol)
      return Effect.void
    })
  private serversOf(model: string) {
    return Effect.suspend(() => this.registry.locate(model))
  }

  /** What a server speaks that has answered for a model. */
  protocol(url: string, model: string): Protocol {
    if (url === "embedded:") return "embedded"
    const hosts = Direct.valueOf(this.registry.locate(model))
    return hosts?.find(({ server }) => server.url === url)?.protocol ?? this.protocols.get(url) ?? "ollama"
  }

  /** Every server with its protocol and models. */
  readonly servers: Effect.Effect<ReadonlyArray<{ readonly server: Server; readonly status: Registry.ServerStatus }>> =
    Effect.suspend(() => {
      const configured = new Map(this.settings.servers.map((server) => [server.url, server]))
      // Many servers have the same models.
      const hosts = new Map<string, Effect.Effect<ReadonlyMap<string, Server>>>()
      const hostsOf = (model: string) =>
        Effect.suspend(() => {
          const known = hosts.get(model)
          if (known !== undefined) return known
          const found = Effect.map(
            Effect.orElseSucceed(this.registry.locate(model), (): ReadonlyArray<Host> => []),
            (all) => new Map(all.map(({ server }) => [server.url, server]))
          )
          return Effect.tap(found, (all) => hosts.set(model, Effect.succeed(all)))
        })
      return Effect.flatMap(
        this.registry.servers,
        Effect.forEach((status) => {
          const own = configured.get(status.url)
          const [model] = status.models
          if (own !== undefined) return Effect.succeed([{ server: { ...own, api: status.api ?? own.api }, status }])
          if (model === undefined) return Effect.succeed([])
          // Servers known only from registry files are found through a model that they have.
          return Effect.map(hostsOf(model), (all) => {
            const server = all.get(status.url)
            return server === undefined ? [] : [{ server, status }]
          })
        })
      )
    }).pipe(Effect.map((all) => all.flat()))
}
