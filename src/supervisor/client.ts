/** Asks the supervisor over its control socket, and starts it where it does not run. */
import { readFileSync } from "node:fs"
import type * as Path from "@effect/platform/Path"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import { commandLine } from "../cortex/engineSystem.js"
import { SupervisorUnavailable } from "../Errors.js"
import * as LocalModels from "../LocalModels.js"
import * as ControlRequests from "./controlRequests.js"
import { launch } from "./launch.js"
import { type Paths, paths } from "./paths.js"

/** How long a supervisor may take until it answers, in milliseconds. */
const startTimeout = 20_000

const pollInterval = 40

const maxLogLines = 80

const send = (
  socket: string,
  method: string,
  path: string,
  body?: unknown
): Effect.Effect<ControlRequests.Answer, ControlRequests.NoAnswer> =>
  Effect.async((resume) => {
    const cancel = ControlRequests.send(
      socket,
      method,
      path,
      body,
      (answer) => resume(Effect.succeed(answer)),
      (why) => resume(Effect.fail(why))
    )
    return Effect.sync(cancel)
  })

/** Hands out each line of an answer, which goes on until it is ended. */
const follow = (socket: string, id: string, tell: (event: unknown) => void) =>
  Effect.async<void, SupervisorUnavailable>((resume) => {
    const cancel = ControlRequests.follow(socket, "/follow", { id }, tell, (reason) =>
      resume(reason === undefined ? Effect.void : unavailable(reason))
    )
    return Effect.sync(cancel)
  })

const decodeError = Schema.decodeUnknownEither(Schema.parseJson(LocalModels.OperationError))
const decodeMessage = Schema.decodeUnknownEither(Schema.parseJson(Schema.Struct({ message: Schema.String })))

const unavailable = (reason: string, log: ReadonlyArray<string> = []) => new SupervisorUnavailable({ reason, log })

/** Why an operation failed. */
export const errorOf = (answer: ControlRequests.Answer): LocalModels.OperationError => {
  const error = decodeError(answer.body)
  if (Either.isRight(error)) return error.right
  const message = decodeMessage(answer.body)
  return unavailable(Either.isRight(message) ? message.right.message : `it answered ${answer.status}`)
}

const call = <A, I>(
  socket: string,
  method: "GET" | "POST",
  path: string,
  schema: Schema.Schema<A, I>,
  body?: unknown
): Effect.Effect<A, LocalModels.OperationError> =>
  Effect.flatMap(
    Effect.mapError(send(socket, method, path, body), ({ reason }) => unavailable(reason)),
    (answer): Effect.Effect<A, LocalModels.OperationError> => {
      if (answer.status === 200) {
        return Effect.mapError(Schema.decodeUnknown(Schema.parseJson(schema))(answer.body), () =>
          unavailable("it is of another version of this package; end it with `aicortex stop`")
        )
      }
      return Effect.fail(errorOf(answer))
    }
  )

/** Operations that start nothing never fail with another error. */
const plain = <A>(effect: Effect.Effect<A, LocalModels.OperationError>) =>
  Effect.mapError(effect, (error) => (error._tag === "SupervisorUnavailable" ? error : unavailable(error.message)))

const Nothing = Schema.Struct({})

/** The supervisor that runs. Each fails with `SupervisorUnavailable` where there is none. */
export const make = ({ socket }: Pick<Paths, "socket">) => ({
  status: plain(call(socket, "GET", "/status", LocalModels.Status)),
  /** `lasting`: it outlives the gateway that has it started. */
  start: (model: string, options: LocalModels.StartOptions, lasting = true) =>
    call(socket, "POST", "/start", Schema.String, { model, options, lasting }),
  stop: (model: string) =>
    Effect.map(
      plain(call(socket, "POST", "/stop", Schema.Struct({ stopped: Schema.Boolean }), { model })),
      ({ stopped }) => stopped
    ),
  want: (model: string) => Effect.asVoid(plain(call(socket, "POST", "/want", Nothing, { model }))),
  touch: (model: string) => Effect.asVoid(plain(call(socket, "POST", "/touch", Nothing, { model }))),
  refresh: Effect.asVoid(plain(call(socket, "POST", "/refresh", Nothing))),
  shutdown: Effect.asVoid(plain(call(socket, "POST", "/shutdown", Nothing))),
  /** Has something done with the models, as JSON. */
  run: (operation: LocalModels.Operation, body: object) =>
    call<unknown, unknown>(socket, "POST", `/run/${operation}`, Schema.Unknown, body),
  /** Follows what happens, until the supervisor or the caller ends it. */
  follow: (id: string, tell: (event: unknown) => void) => follow(socket, id, tell),
  /** Ends that. Whether the supervisor ends with it. */
  leave: (id: string) =>
    Effect.map(
      plain(call(socket, "POST", "/leave", Schema.Struct({ ends: Schema.Boolean }), { id })),
      ({ ends }) => ends
    )
})

export type Client = ReturnType<typeof make>

/** What it takes to find the supervisor of this user. */
export type Needs = Path.Path

/** The client, over the paths of this user. */
export const client: Effect.Effect<Client, never, Path.Path> = Effect.map(paths, make)

const tailOf = (file: string): ReadonlyArray<string> => {
  try {
    return readFileSync(file, "utf8").trimEnd().split("\n").slice(-maxLogLines)
  } catch {
    return []
  }
}

/** The supervisor that runs, or one that is started for it. `arguments_` are those of `aicortex start --foreground`. */
export const ensure = Effect.fnUntraced(function* (
  flags: ReadonlyArray<string> = [],
  environment: NodeJS.ProcessEnv = {}
): Effect.fn.Return<LocalModels.Status, SupervisorUnavailable, Path.Path> {
  const at = yield* paths
  const { status } = make(at)
  const before = yield* Effect.either(status)
  if (Either.isRight(before)) return before.right
  if (before.left.reason !== ControlRequests.noSupervisor && !before.left.reason.includes("is starting"))
    return yield* before.left
  const command = commandLine()
  if (command === undefined) return yield* unavailable("the command line of this package is not built")
  const launched = yield* Effect.tryPromise({
    try: () => launch(at, command, flags, undefined, environment),
    catch: (cause) => unavailable(`it cannot be started: ${String(cause)}`)
  }).pipe(
    Effect.timeoutFail({
      duration: startTimeout,
      onTimeout: () => unavailable("it did not answer in time", tailOf(at.log))
    })
  )
  if (!launched.answers && launched.code !== 0) return yield* unavailable("it ended at once", tailOf(at.log))
  const began = yield* Clock.currentTimeMillis
  // Another may have been started at the same moment: then that one answers soon.
  while (true) {
    const found = yield* Effect.either(status)
    if (Either.isRight(found)) return found.right
    const now = yield* Clock.currentTimeMillis
    if (now - began > startTimeout) return yield* unavailable("it did not answer in time", tailOf(at.log))
    yield* Effect.sleep(pollInterval)
  }
})

/** Ends the supervisor and all that it holds, and waits until it is gone. `false` if there was none. */
export const shutdown: Effect.Effect<boolean, SupervisorUnavailable, Path.Path> = Effect.gen(function* () {
  const { shutdown, status } = yield* client
  const asked = yield* Effect.either(shutdown)
  if (Either.isLeft(asked)) {
    if (asked.left.reason === ControlRequests.noSupervisor) return false
    return yield* asked.left
  }
  while (Either.isRight(yield* Effect.either(status))) yield* Effect.sleep(pollInterval)
  return true
})
