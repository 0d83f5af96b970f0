/**
 * The models of this machine for a gateway: follows the supervisor of this user, and keeps one as long as the gateway
 * runs and there is a model.
 */
import { randomUUID } from "node:crypto"
import { readdirSync, statSync } from "node:fs"
import { resolve } from "node:path"
import type * as Path from "@effect/platform/Path"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { SupervisorUnavailable } from "../Errors.js"
import * as LocalModels from "../LocalModels.js"
import { isModelFolder } from "../modelStore/names.js"
import * as Servers from "../Servers.js"
import * as Client from "./client.js"
import * as Feed from "./feed.js"
import * as Machine from "./machine.js"
import { paths } from "./paths.js"
import { defaultPort } from "./port.js"
import { startOf } from "./processes.js"
import { serversOf } from "./servers.js"

/** Between two looks for a supervisor, or for the first model of this machine, in milliseconds. */
const lookInterval = 1_000

/** How long the first list may take, and a supervisor until it is gone, in milliseconds. */
const listTimeout = 5_000
const endTimeout = 10_000
const pollInterval = 40

export interface KeeperOptions {
  /** Whether this process starts a supervisor; others of the same gateway only follow it. */
  readonly starts: boolean
  /** Where models are kept. */
  readonly folder: string | undefined
  /** Whether this machine has a model. */
  readonly hasModels: Effect.Effect<boolean>
  /** The port of the gateway, which the supervisor does not take. */
  readonly port: number
  /** Variables for the supervisor, in addition to those of this process. */
  readonly environment: NodeJS.ProcessEnv
  /** Receives messages for the operator. */
  readonly log: (text: string) => void
}

export interface Keeper {
  readonly servers: Servers.Service
  /** Manages them; a supervisor is started for what needs one. */
  readonly control: LocalModels.Control
}

const decodeEvent = Schema.decodeUnknownEither(
  Schema.Union(
    Schema.Struct({ type: Schema.Literal("models"), models: Schema.Array(LocalModels.Model) }),
    Schema.Struct({ type: Schema.Literal("task"), task: LocalModels.PullTask })
  )
)

const decodeBegun = Schema.decodeUnknownEither(Schema.Struct({ task: LocalModels.PullTask }))

/**
 * Waits until there may be a supervisor, or a model where one is started for it. There usually is none, and the gateway
 * looks for it as long as it runs: a look at the files, without Effect, costs a tenth of a request that fails.
 */
const supervisorOrModel = (socket: string, folder: string | undefined): Effect.Effect<void> => {
  const isThere = (path: string) => statSync(path, { throwIfNoEntry: false }) !== undefined
  const look = (): boolean => {
    // A pipe of Windows is no file.
    if (process.platform === "win32") return true
    try {
      return isThere(socket) || (folder !== undefined && isThere(folder) && readdirSync(folder).some(isModelFolder))
    } catch {
      // What cannot be looked at is asked, and says why.
      return true
    }
  }
  return Effect.async((resume) => {
    const timer = setInterval(() => {
      if (!look()) return
      clearInterval(timer)
      resume(Effect.void)
    }, lookInterval)
    return Effect.sync(() => clearInterval(timer))
  })
}

/** Keeps the servers up to date until the scope closes; a supervisor that was started for it alone ends then. */
export const make = Effect.fnUntraced(function* ({
  environment,
  folder,
  hasModels,
  log,
  port,
  starts
}: KeeperOptions): Effect.fn.Return<Keeper, never, Path.Path | Scope.Scope> {
  const at = yield* paths
  const client = Client.make(at)
  const context = yield* Effect.context<Path.Path>()
  const id = randomUUID()
  const first = yield* Deferred.make<void>()
  let models: ReadonlyArray<LocalModels.Model> = []
  const tasks = new Map<string, LocalModels.PullTask>()
  const observers = new Set<(task: LocalModels.PullTask) => void>()
  let supervisor: LocalModels.Status | undefined
  const made = yield* Servers.make((model) => Feed.fork(client.want(model)))
  yield* Feed.reporting(made, client)

  const take = (now: ReadonlyArray<LocalModels.Model>) =>
    Effect.suspend(() => {
      models = now
      return made.set(serversOf(now))
    })
  const note = (task: LocalModels.PullTask): void => {
    tasks.set(task.id, task)
    for (const told of observers) told(task)
  }
  const tell = (event: unknown): void => {
    const decoded = decodeEvent(event)
    if (Either.isLeft(decoded)) return
    if (decoded.right.type === "task") note(decoded.right.task)
    else Feed.fork(Effect.zipRight(take(decoded.right.models), Deferred.succeed(first, undefined)))
  }
  /** A supervisor that has ended downloads nothing more. */
  const gone = Effect.suspend(() => {
    for (const task of tasks.values()) {
      if (task.state === "running") note({ ...task, state: "failed", error: "the supervisor has ended" })
    }
    tasks.clear()
    return take([])
  })

  const flags = ["--while-followed", "--port", String(port === defaultPort ? 0 : defaultPort)]
  const ensured = Effect.provide(Client.ensure(flags, environment), context)
  /** The supervisor; one is started where that is to be. */
  const find = Effect.gen(function* () {
    const found = yield* Effect.either(client.status)
    if (Either.isRight(found)) return found.right
    if (!starts || !(yield* hasModels)) return undefined
    return yield* ensured
  })
  let said = ""
  const complain = ({ message }: SupervisorUnavailable) =>
    Effect.sync(() => {
      if (message !== said) log(`the models of this machine cannot be served: ${message}`)
      said = message
    })
  const once = Effect.gen(function* () {
    supervisor = yield* find
    if (supervisor === undefined) return
    yield* client.follow(id, tell)
    yield* gone
  }).pipe(Effect.catchAll(complain), Effect.ensuring(Deferred.succeed(first, undefined)))

  const next = supervisorOrModel(at.socket, starts && folder !== undefined ? resolve(folder) : undefined)
  yield* Effect.forkScoped(Effect.interruptible(Effect.forever(Effect.zipRight(once, next))))
  yield* Effect.addFinalizer(() =>
    Effect.gen(function* () {
      const before = supervisor
      if (before === undefined) return
      const ends = yield* Effect.orElseSucceed(client.leave(id), () => false)
      if (!ends) return
      const isThere = Effect.map(
        Effect.promise(() => startOf(before.pid)),
        (start) => start === before.processStart
      )
      yield* Effect.sleep(pollInterval).pipe(
        Effect.zipRight(isThere),
        Effect.repeat({ while: (there) => there }),
        Effect.timeout(endTimeout),
        Effect.ignore
      )
    })
  )
  yield* Effect.ignore(Effect.timeout(Deferred.await(first), listTimeout))
  const control: LocalModels.Control = {
    models: () => models,
    tasks: () => [...tasks.values()],
    observe: (told) => {
      observers.add(told)
      return () => observers.delete(told)
    },
    run: (operation, body) =>
      Effect.tap(Effect.zipRight(ensured, client.run(operation, body)), (answer) =>
        Effect.sync(() => {
          const begun = decodeBegun(answer)
          // An event about it may have arrived before the answer.
          if (Either.isRight(begun) && !tasks.has(begun.right.task.id)) note(begun.right.task)
        })
      ),
    hardware: Machine.hardware(folder),
    engines: Machine.engines
  }
  return { servers: made.service, control }
})
