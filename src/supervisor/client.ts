/** Asks the supervisor over its control socket, and starts it where it does not run. */
import { spawn } from "node:child_process"
import { closeSync, openSync, readFileSync } from "node:fs"
import { request } from "node:http"
import type * as Path from "@effect/platform/Path"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import { commandLine } from "../cortex/engineSystem.js"
import { SupervisorUnavailable } from "../Errors.js"
import * as LocalModels from "../LocalModels.js"
import { type Paths, paths } from "./paths.js"
import * as StateFile from "./stateFile.js"

/** How long a supervisor may take until it answers, in milliseconds. */
const startTimeout = 20_000

const pollInterval = 40

const maxLogLines = 80

interface Answer {
  readonly status: number
  readonly body: string
}

const noSupervisor = "no supervisor runs"

const send = (
  socket: string,
  method: string,
  path: string,
  body?: unknown
): Effect.Effect<Answer, { readonly reason: string }> =>
  Effect.async((resume) => {
    const text = body === undefined ? "" : JSON.stringify(body)
    const exchange = request(
      { socketPath: socket, method, path, headers: { "content-length": Buffer.byteLength(text) }, agent: false },
      (response) => {
        let received = ""
        response.setEncoding("utf8").on("data", (piece: string) => {
          received += piece
        })
        response.on("end", () => resume(Effect.succeed({ status: response.statusCode ?? 0, body: received })))
        response.on("error", (error) => resume(Effect.fail({ reason: error.message })))
      }
    )
    exchange.on("error", (error: NodeJS.ErrnoException) => {
      const gone = error.code === "ENOENT" || error.code === "ECONNREFUSED"
      resume(Effect.fail({ reason: gone ? noSupervisor : `it broke off: ${error.message}` }))
    })
    exchange.end(text)
    return Effect.sync(() => exchange.destroy())
  })

const decodeError = Schema.decodeUnknownEither(Schema.parseJson(LocalModels.StartError))
const decodeMessage = Schema.decodeUnknownEither(Schema.parseJson(Schema.Struct({ message: Schema.String })))

const unavailable = (reason: string, log: ReadonlyArray<string> = []) => new SupervisorUnavailable({ reason, log })

const call = <A, I>(
  socket: string,
  method: "GET" | "POST",
  path: string,
  schema: Schema.Schema<A, I>,
  body?: unknown
): Effect.Effect<A, SupervisorUnavailable | LocalModels.StartError> =>
  Effect.flatMap(
    Effect.mapError(send(socket, method, path, body), ({ reason }) => unavailable(reason)),
    (answer): Effect.Effect<A, SupervisorUnavailable | LocalModels.StartError> => {
      if (answer.status === 200) {
        return Effect.mapError(Schema.decodeUnknown(Schema.parseJson(schema))(answer.body), () =>
          unavailable("it is of another version of this package; end it with `aicortex stop`")
        )
      }
      const error = decodeError(answer.body)
      if (Either.isRight(error)) return Effect.fail(error.right)
      const message = decodeMessage(answer.body)
      return Effect.fail(unavailable(Either.isRight(message) ? message.right.message : `it answered ${answer.status}`))
    }
  )

/** Operations that start nothing never fail with another error. */
const plain = <A>(effect: Effect.Effect<A, SupervisorUnavailable | LocalModels.StartError>) =>
  Effect.mapError(effect, (error) => (error._tag === "SupervisorUnavailable" ? error : unavailable(error.message)))

const Nothing = Schema.Struct({})

/** The supervisor that runs. Each fails with `SupervisorUnavailable` where there is none. */
export const make = ({ socket }: Pick<Paths, "socket">) => ({
  status: plain(call(socket, "GET", "/status", LocalModels.Status)),
  start: (model: string, options: LocalModels.StartOptions) =>
    call(socket, "POST", "/start", Schema.String, { model, options }),
  stop: (model: string) =>
    Effect.map(
      plain(call(socket, "POST", "/stop", Schema.Struct({ stopped: Schema.Boolean }), { model })),
      ({ stopped }) => stopped
    ),
  want: (model: string) => Effect.asVoid(plain(call(socket, "POST", "/want", Nothing, { model }))),
  touch: (model: string) => Effect.asVoid(plain(call(socket, "POST", "/touch", Nothing, { model }))),
  refresh: Effect.asVoid(plain(call(socket, "POST", "/refresh", Nothing))),
  shutdown: Effect.asVoid(plain(call(socket, "POST", "/shutdown", Nothing)))
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
  flags: ReadonlyArray<string> = []
): Effect.fn.Return<LocalModels.Status, SupervisorUnavailable, Path.Path> {
  const at = yield* paths
  const { status } = make(at)
  const before = yield* Effect.either(status)
  if (Either.isRight(before)) return before.right
  if (before.left.reason !== noSupervisor && !before.left.reason.includes("is starting")) return yield* before.left
  const command = commandLine()
  if (command === undefined) return yield* unavailable("the command line of this package is not built")
  const child = yield* Effect.try({
    try: () => {
      for (const folder of [at.folder, at.logs]) StateFile.ownFolder(folder)
      const log = openSync(at.log, "w", 0o600)
      try {
        const started = spawn(command.file, [...command.args, "start", "--foreground", ...flags], {
          detached: true,
          stdio: ["ignore", log, log],
          cwd: at.folder,
          windowsHide: true
        })
        started.on("error", () => {})
        started.unref()
        return started
      } finally {
        closeSync(log)
      }
    },
    catch: (cause) => unavailable(`it cannot be started: ${String(cause)}`)
  })
  const began = yield* Clock.currentTimeMillis
  while (true) {
    const found = yield* Effect.either(status)
    if (Either.isRight(found)) return found.right
    const now = yield* Clock.currentTimeMillis
    // Another may have been started at the same moment: then this one has ended, and that one answers soon.
    if (child.exitCode !== null && child.exitCode !== 0) {
      return yield* unavailable("it ended at once", tailOf(at.log))
    }
    if (now - began > startTimeout) return yield* unavailable("it did not answer in time", tailOf(at.log))
    yield* Effect.sleep(pollInterval)
  }
})

/** Ends the supervisor and all that it holds, and waits until it is gone. `false` if there was none. */
export const shutdown: Effect.Effect<boolean, SupervisorUnavailable, Path.Path> = Effect.gen(function* () {
  const { shutdown, status } = yield* client
  const asked = yield* Effect.either(shutdown)
  if (Either.isLeft(asked)) {
    if (asked.left.reason === noSupervisor) return false
    return yield* asked.left
  }
  while (Either.isRight(yield* Effect.either(status))) yield* Effect.sleep(pollInterval)
  return true
})
