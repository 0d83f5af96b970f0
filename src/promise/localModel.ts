/** A model of this machine, for plain TypeScript. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type * as Chat from "../Chat.js"
import * as Local from "../LocalModel.js"
import { nameOf } from "../localModel/source.js"
import type { Message } from "../Message.js"
import type { PullEvent } from "../ModelStore.js"
import { withCallSites } from "./callSite.js"
import { type ChatOptions, chatOptions, given, onAbort } from "./calls.js"
import { ChatStream } from "./chatStream.js"

/**
 * The options of a local model: those of `LocalModel.Options`. Times are in milliseconds, or durations of Effect.
 *
 * @since 0.2.0
 * @category models
 */
export interface LocalModelOptions extends Local.Options {}

/**
 * Options of one call to a local model, which come before those of the model.
 *
 * @since 0.2.0
 * @category models
 */
export interface LocalCallOptions
  extends Omit<ChatOptions, "model" | "session" | "stream" | "responseFormat" | "schema"> {}

/**
 * How a local model's files are got.
 *
 * @since 0.3.0
 * @category models
 */
export interface LocalDownloadOptions {
  /** Hears what happens; nothing where the files are here. */
  readonly onEvent?: ((event: PullEvent) => void) | undefined
  /** Ends it. */
  readonly signal?: AbortSignal | undefined
}

/**
 * What a local model said.
 *
 * @since 0.2.0
 * @category models
 */
export interface LocalReply {
  /** Who speaks. */
  readonly role: "assistant"
  /** The text. */
  readonly content: string
}

/** Rejects with the error itself; `signal` interrupts. */
const { run } = withCallSites({
  run: async <A, E>(effect: Effect.Effect<A, E>, signal?: AbortSignal): Promise<A> => {
    const exit = await Effect.runPromiseExit(effect, signal === undefined ? undefined : { signal })
    if (Exit.isSuccess(exit)) return exit.value
    if (signal?.aborted === true) throw signal.reason
    throw Cause.squash(exit.cause)
  }
})

const callOf = (options: LocalCallOptions | undefined) => {
  const { signal, tools, ...rest } = given(options)
  return { signal, call: chatOptions(rest, undefined, tools) as Omit<Chat.Options, "model" | "session"> }
}

/**
 * A model that runs on this machine, in a child process, until it is stopped or disposed of. For Node.
 *
 * @example
 * import { LocalModel } from "aicortex/promise"
 *
 * await using model = await LocalModel.open("aicortex-demo", { temp: 0 })
 * console.log((await model.chat("Why is the sky blue?")).content)
 *
 * @since 0.2.0
 * @category models
 */
export class LocalModel implements AsyncDisposable {
  private readonly scope = Effect.runSync(Scope.make())
  private readonly local: Promise<Local.LocalModel>

  /** The name that requests ask for: what was said, and of a file or an address the name of the file. */
  readonly model: string

  /** A model that is not started yet: call `serve`. An option that cannot be used rejects there. */
  constructor(model: string, options?: LocalModelOptions) {
    this.model = typeof model === "string" ? nameOf(model) : ""
    this.local = run(Scope.extend(Local.make(model, options), this.scope))
    // The error is reported by the first call; here it is only marked as handled.
    this.local.catch(() => {})
  }

  /**
   * A model that runs: it is downloaded where it is missing, started, and waited for. `signal` ends the wait, and the
   * engine with it.
   */
  static async open(
    model: string,
    options?: LocalModelOptions & {
      /** Ends the wait. */
      readonly signal?: AbortSignal | undefined
    }
  ): Promise<LocalModel> {
    const { signal, ...rest } = given(options)
    const local = new LocalModel(model, rest)
    try {
      await run(
        Effect.flatMap(
          Effect.promise(() => local.local),
          (made) => made.serve
        ),
        signal
      )
      return local
    } catch (error) {
      await local[Symbol.asyncDispose]()
      throw error
    }
  }

  /** Gets the model's files, where they are not here yet. What was downloaded stays, also where `signal` ends it. */
  async download(options?: LocalDownloadOptions): Promise<void> {
    const { onEvent = () => {}, signal } = given(options)
    await run((await this.local).downloadWith(onEvent), signal)
  }

  /**
   * Starts its engine and waits until it answers; where it runs already, nothing happens. `signal` ends the wait, and the
   * engine with it.
   */
  async serve(options?: {
    /** Ends the wait. */
    readonly signal?: AbortSignal | undefined
  }): Promise<void> {
    const { signal } = given(options)
    await run((await this.local).serve, signal)
  }

  /** Stops its engine, if it runs or is starting: then `serve` rejects. */
  async stop(): Promise<void> {
    await run((await this.local).stop)
  }

  /** Whether its engine runs. */
  async running(): Promise<boolean> {
    return await run((await this.local).running)
  }

  /** The base address for other clients, `http://127.0.0.1:PORT/v1`. Rejects with `NotRunning` before `serve`. */
  get url(): Promise<string> {
    return this.local.then((local) => run(local.url))
  }

  /**
   * Asks it. `history` is what was said before, such as a system prompt; it is neither changed nor kept. Rejects with
   * `NotRunning` before `serve`.
   */
  async chat(message: string, history?: ReadonlyArray<Message>, options?: LocalCallOptions): Promise<LocalReply> {
    const { call, signal } = callOf(options)
    return await run((await this.local).chat(message, history, call), signal)
  }

  /** The same as events, while the answer is being written. */
  async stream(message: string, history?: ReadonlyArray<Message>, options?: LocalCallOptions): Promise<ChatStream> {
    const { call, signal } = callOf(options)
    const open = (await this.local).open(message, history, call)
    const started = Effect.map(open, (answer) => {
      if (signal !== undefined) onAbort(signal, () => answer.cancel(signal.reason))
      return new ChatStream(answer)
    })
    return await run(started, signal)
  }

  /** Stops its engine for good. */
  async [Symbol.asyncDispose](): Promise<void> {
    await run(Scope.close(this.scope, Exit.void))
  }
}
