/** Starts an engine and waits until it answers. */
import * as HttpClient from "@effect/platform/HttpClient"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { type Child, System } from "../Engines.js"
import { EngineFailed } from "../Errors.js"
import { canonical } from "../Model.js"
import type { Engine, EngineOptions, LocalSource } from "./engine.js"

/** What to start. */
export interface StartOptions {
  readonly engine: Engine
  /** As the engine says where it is installed. */
  readonly program: string
  readonly source: LocalSource
  readonly options: EngineOptions
  /** How long it may take until it answers, in milliseconds. */
  readonly timeout: number
  /** The port, unless it is taken; default: a free port. */
  readonly port?: number | undefined
  /** Receives each line that it writes. */
  readonly line?: ((text: string) => void) | undefined
}

/** An engine that answers. */
export interface Started {
  readonly engine: Engine
  readonly child: Child
  /** `http://127.0.0.1:PORT`. */
  readonly url: string
  readonly port: number
}

/** Between two looks at an engine that is starting, in milliseconds. */
const pollInterval = 100

/** How long one look may take, in milliseconds. */
const pollTimeout = 3_000

/** How often another port is tried if another program took the free one. */
const portAttempts = 3

const isPortTaken = (log: ReadonlyArray<string>): boolean =>
  log.some((line) => /address already in use|EADDRINUSE|port .* is in use|couldn't bind/i.test(line))

const text = (client: HttpClient.HttpClient, url: string) =>
  client.get(url).pipe(
    Effect.flatMap((response) => Effect.map(response.text, (body) => ({ status: response.status, body }))),
    Effect.timeout(pollTimeout)
  )

/** Whether a list of models names one; lists of another form say nothing. */
const lists = (body: string, name: string): boolean => {
  try {
    const { data } = JSON.parse(body) as { readonly data?: unknown }
    if (!Array.isArray(data)) return true
    return data.some(
      (one: { readonly id?: unknown }) => typeof one?.id === "string" && canonical(one.id) === canonical(name)
    )
  } catch {
    return true
  }
}

/** Waits until an engine says that it answers, and where; fails with why it did not. */
const waitForWord = (
  child: Child,
  word: Deferred.Deferred<string>,
  { timeout }: StartOptions
): Effect.Effect<string, string> =>
  Effect.raceFirst(
    Deferred.await(word),
    Effect.flatMap(child.ended, (end) => Effect.fail(`it ended with ${end}`))
  ).pipe(
    Effect.timeoutFail({
      duration: timeout,
      onTimeout: () => `it was not ready within ${timeout / 1000} s`
    })
  )

/** Waits until an engine answers that says nothing of itself; fails with why it did not. */
const waitUntilReady = Effect.fnUntraced(function* (
  client: HttpClient.HttpClient,
  child: Child,
  url: string,
  { engine, source, timeout }: StartOptions
) {
  const began = yield* Clock.currentTimeMillis
  let last = "it does not answer"
  while (true) {
    const end = child.end()
    if (end !== undefined) return yield* Effect.fail(`it ended with ${end}`)
    const found = yield* Effect.either(text(client, `${url}${engine.health.ready}`))
    if (found._tag === "Right") {
      const { body, status } = found.right
      if (status === 200) break
      last = `${engine.health.ready} answered ${status}${body === "" ? "" : `: ${body.slice(0, 200)}`}`
    }
    if ((yield* Clock.currentTimeMillis) - began >= timeout) {
      return yield* Effect.fail(`it was not ready within ${timeout / 1000} s (${last})`)
    }
    yield* Effect.raceFirst(Effect.sleep(pollInterval), Effect.asVoid(child.ended))
  }
  const models = yield* Effect.either(text(client, `${url}${engine.health.models}`))
  if (models._tag === "Right" && models.right.status === 200 && !lists(models.right.body, source.name)) {
    return yield* Effect.fail(
      engine.name === "ollama"
        ? `it has no such model; get it with \`ollama pull ${source.name}\``
        : "it does not list the model: another program answers at its port"
    )
  }
})

/**
 * Starts an engine, which is stopped with the scope. Fails with `EngineFailed`, whose `log` holds its last lines, where
 * it ends or does not answer in time.
 */
export const start = Effect.fnUntraced(function* (
  asked: StartOptions
): Effect.fn.Return<Started, EngineFailed, Scope.Scope | System | HttpClient.HttpClient> {
  const system = yield* System
  const client = HttpClient.withTracerDisabledWhen(yield* HttpClient.HttpClient, () => true)
  const { engine, options, program, source } = asked
  const outer = yield* Effect.scope
  const failed = (reason: string, log: ReadonlyArray<string> = []) =>
    new EngineFailed({ engine: engine.name, model: source.name, reason, log })

  for (let attempt = 1; ; attempt++) {
    const scope = yield* Scope.fork(outer, outer.strategy)
    let child: Child | undefined
    const starting = Effect.gen(function* () {
      const port = attempt === 1 && asked.port !== undefined ? asked.port : yield* system.freePort
      const command = engine.command(program, source, options, port)
      const { announced } = engine
      const word = yield* Deferred.make<string>()
      child = yield* system.spawn(command, (text) => {
        const said = announced?.(text)
        if (said?.ready === true) Deferred.unsafeDone(word, Effect.succeed(said.url))
        asked.line?.(text)
      })
      const at = `http://127.0.0.1:${port}`
      const waiting =
        announced === undefined
          ? Effect.as(waitUntilReady(client, child, at, asked), at)
          : waitForWord(child, word, asked)
      const url = yield* Effect.mapError(waiting, (reason) => ({ reason }))
      return { engine, child, url, port: Number(new URL(url).port) }
    })
    const exit = yield* starting.pipe(
      Effect.provideService(Scope.Scope, scope),
      Effect.onExit((exit) => (Exit.isSuccess(exit) ? Effect.void : Scope.close(scope, exit))),
      Effect.either
    )
    if (exit._tag === "Right") return exit.right
    const log = child?.log() ?? []
    if (attempt === portAttempts || !isPortTaken(log)) {
      return yield* failed(exit.left.reason, log)
    }
  }
})
