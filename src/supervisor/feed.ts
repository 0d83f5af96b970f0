/** The engines that the supervisor of this user holds, as servers of a fleet in another process. */
import { watch } from "node:fs"
import { basename, dirname } from "node:path"
import type * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Servers from "../Servers.js"
import * as Client from "./client.js"
import { type Paths, paths } from "./paths.js"
import { startOf } from "./processes.js"
import { serversOf } from "./servers.js"
import * as StateFile from "./stateFile.js"

/** Between two reports of what is used, in milliseconds. */
const reportInterval = 1_000

/** What its file says, if the supervisor that wrote it still runs. */
const readState = async (at: Paths) => {
  const status = StateFile.read(at)
  if (status === undefined) return undefined
  return (await startOf(status.pid)) === (status.processStart ?? undefined) ? status : undefined
}

export const fork = (effect: Effect.Effect<void, unknown>): void => {
  Effect.runFork(Effect.ignore(effect))
}

/** Tells the supervisor which models are in use here, so that it keeps them, until the scope closes. */
export const reporting = (
  { service, usage }: Effect.Effect.Success<ReturnType<typeof Servers.make>>,
  client: Pick<Client.Client, "touch">
): Effect.Effect<void, never, Scope.Scope> => {
  const answered = new Map<string, number>()
  const report = (): void => {
    const used = new Set<string>()
    for (const { info, server } of service.now()) {
      const now = usage(server.url, info.model_name)
      const before = answered.get(server.url) ?? 0
      answered.set(server.url, now.answered)
      if (now.inFlight > 0 || now.queued > 0 || now.answered > before) used.add(info.model_name)
    }
    for (const model of used) fork(client.touch(model))
  }
  return Effect.asVoid(
    Effect.acquireRelease(
      Effect.sync(() => setInterval(report, reportInterval).unref()),
      (timer) => Effect.sync(() => clearInterval(timer))
    )
  )
}

/** The servers, kept up to date until the scope closes. Nothing is asked: the supervisor notes them in a file. */
export const make: Effect.Effect<Servers.Service, never, Path.Path | Scope.Scope> = Effect.gen(function* () {
  const at = yield* paths
  const client = Client.make(at)
  const made = yield* Servers.make((model) => fork(client.want(model)))
  const read = Effect.flatMap(
    Effect.promise(() => readState(at)),
    (status) => made.set(serversOf(status?.models ?? []))
  )
  yield* read
  yield* reporting(made, client)
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      try {
        const watcher = watch(dirname(at.state), { persistent: false }, (_, name) => {
          if (name === basename(at.state)) fork(read)
        })
        watcher.on("error", () => {})
        return watcher
      } catch {
        // The folder is made with the first supervisor.
        return undefined
      }
    }),
    (watcher) => Effect.sync(() => watcher?.close())
  )
  return made.service
})

/** The same as a layer. */
export const layer: Layer.Layer<Servers.Servers, never, Path.Path> = Layer.scoped(Servers.Servers, make)
