/**
 * A prompt in, an answer with everything that is known of it out: who answered and why, how fast, and under which
 * conditions. By default the model is chosen (`auto`), and the answer is written to the terminal as it comes.
 *
 * ```ts
 * import { Cortex, Execute } from "aicortex"
 * import { Effect } from "effect"
 *
 * const program = Execute.execute({ prompt: "What is quantum computing?", stream: false }).pipe(
 *   Effect.map(({ metrics, modelId, response }) => `${modelId}, ${metrics.totalLatency} ms: ${response}`),
 *   Effect.provide(Cortex.layer())
 * )
 * ```
 *
 * @since 0.2.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { Chat } from "./Chat.js"
import type { ChatEvent, End } from "./ChatEvent.js"
import type * as ChatRequest from "./ChatRequest.js"
import { Conditions } from "./Conditions.js"
import type { Decision } from "./Decision.js"
import { type Attempt, type ChatError, InvalidRequest, type TurnNotStored } from "./Errors.js"
import { converse } from "./execute/conversation.js"
import { check, type Options } from "./execute/options.js"
import { type AgentChecks, type Metrics, metricsLine, metricsOf } from "./execute/report.js"
import { linesOf, type Output, Terminal, writeTo } from "./execute/terminal.js"
import type { Result } from "./Failover.js"
import { decisionOf } from "./failover/answerEnd.js"
import { Registry } from "./Registry.js"
import { Sessions } from "./Sessions.js"

export type {
  /**
   * @since 0.2.0
   * @category models
   */
  Options
} from "./execute/options.js"
export type {
  /**
   * @since 0.2.0
   * @category models
   */
  AgentChecks,
  /**
   * @since 0.2.0
   * @category models
   */
  Metrics
} from "./execute/report.js"
export {
  /**
   * @since 0.2.0
   * @category models
   */
  type Lines,
  /**
   * @since 0.2.0
   * @category models
   */
  type Output,
  /**
   * @since 0.2.0
   * @category tags
   */
  Terminal,
  /**
   * @since 0.2.0
   * @category models
   */
  type TerminalService
} from "./execute/terminal.js"

/**
 * An answer and what is known of it. With `chat` it is the last answer of the conversation.
 *
 * @since 0.2.0
 * @category models
 */
export interface Executed {
  /** The name of the request: the one that was given, or a new one. */
  readonly requestId: string
  /** The model that answered, as it can be asked for again: `provider:model`. */
  readonly modelId: string
  /** The text of the answer. */
  readonly response: string
  /** How long it took, and how much it is. */
  readonly metrics: Metrics
  /** Which model on which server was chosen, why, and why not another one. */
  readonly routingDecision: Decision
  /** The attempts that failed before. */
  readonly attempts: ReadonlyArray<Attempt>
  /** The conditions that the decision was made under. */
  readonly agentChecks: AgentChecks
  /** The conversation that it belongs to; `undefined`: none. */
  readonly sessionId: string | undefined
  /** What went wrong after the answer, if anything. */
  readonly warnings?: ReadonlyArray<TurnNotStored> | undefined
}

/**
 * Executes prompts.
 *
 * @since 0.2.0
 * @category models
 */
export interface Service {
  /**
   * Answers a prompt, or holds a conversation (`chat: true`). Fails as a chat does: with `InvalidRequest` before anything is
   * sent, with `SessionNotFound` where there is no such conversation.
   */
  readonly execute: (options: Options) => Effect.Effect<Executed, ChatError>
}

/**
 * The tag of the service.
 *
 * @since 0.2.0
 * @category tags
 */
export class Execute extends Context.Tag("aicortex/Execute")<Execute, Service>() {}

type Answered = Pick<
  Result,
  "text" | "model" | "server" | "usage" | "firstTokenTime" | "tokensPerSecond" | "attempts" | "decision" | "warnings"
>

const lineEnd = (text: string): string => (text.endsWith("\n") ? "" : "\n")

/** Worked out now: results are printed, copied and kept. */
const plain = ({ asked, candidates, chosen, conditions, excluded, reason }: Decision): Decision => ({
  asked,
  chosen,
  reason,
  candidates,
  excluded,
  conditions
})

/**
 * The service, over those that it needs. Answers are written to the `Terminal` of the call, or else to that of its context.
 *
 * @since 0.2.0
 * @category constructors
 */
export const make = Effect.gen(function* () {
  const chat = yield* Chat
  const conditions = yield* Conditions
  const registry = yield* Registry
  const sessions = yield* Sessions
  const ownTerminal = yield* Terminal
  const clock = yield* Effect.clock
  const now = () => clock.unsafeCurrentTimeMillis()

  const providerOf = ({ model, server }: Answered): Effect.Effect<string> =>
    server === "embedded:"
      ? Effect.succeed("embedded")
      : Effect.map(
          Effect.orElseSucceed(registry.locate(model), () => []),
          (hosts) => hosts.find((host) => host.server.url === server)?.protocol ?? "ollama"
        )

  type Ask = ChatRequest.Options & { readonly session?: string | undefined }

  /** The answer, written as it comes. */
  const written = (prompt: string, options: Ask, output: Output | undefined): Effect.Effect<Answered, ChatError> =>
    Effect.suspend(() => {
      const pieces: Array<string> = []
      const decisions: Array<Decision> = []
      let cached = false
      let end: End | undefined
      let open = ""
      const onChunk = Effect.fnUntraced(function* (chunk: Iterable<ChatEvent>) {
        let text = ""
        for (const event of chunk) {
          if (event.type === "token") {
            pieces.push(event.content)
            text += event.content
          } else if (event.type === "restart") {
            pieces.length -= event.discard
            const before = open + text
            text += `${before === "" ? "" : lineEnd(before)}[the text above is discarded: the answer restarts on ${event.server}]\n`
          } else if (event.type === "meta") {
            if (event.meta.type === "cached") cached = true
            else if (event.meta.type === "attempt" && event.meta.decision) decisions.push(event.meta.decision)
          } else if (event.type === "end") end = event
        }
        if (text === "") return
        open = text
        yield* writeTo(output, text)
      })
      return Stream.runForEachChunk(chat.stream(prompt, options), onChunk).pipe(
        Effect.ensuring(Effect.suspend(() => (open === "" ? Effect.void : writeTo(output, lineEnd(open))))),
        Effect.flatMap(() =>
          end === undefined
            ? Effect.dieMessage("an answer ended without its last event")
            : Effect.succeed({
                text: pieces.join(""),
                model: end.model,
                server: end.server,
                usage: end.usage,
                firstTokenTime: end.firstTokenTime,
                tokensPerSecond: end.tokensPerSecond,
                attempts: end.attempts,
                decision: decisionOf(end, decisions, cached),
                warnings: end.warnings
              })
        )
      )
    })

  const execute = Effect.fnUntraced(function* (given: Options): Effect.fn.Return<Executed, ChatError> {
    const { displayMetrics, input, options, requestId, ...checked } = yield* check(given)
    const context = yield* Effect.context<never>()
    const terminal = context.unsafeMap.has(Terminal.key) ? Context.get(context, Terminal) : ownTerminal
    const output = checked.output ?? terminal?.output
    const lines = input === undefined ? terminal?.lines : () => linesOf(input)
    if (checked.chat && lines === undefined) {
      const reason = "reads questions from a terminal, and there is none: give input"
      return yield* new InvalidRequest({ field: "chat", reason })
    }

    /** One question, whose answer is written as it comes, as a whole, or not at all. */
    const ask = Effect.fnUntraced(function* (
      prompt: string,
      session: string | undefined
    ): Effect.fn.Return<Executed, ChatError> {
      const startTime = now()
      const { lines: connectivity, resources } = conditions.current()
      const asked: Ask = session === undefined ? options : { ...options, session }
      const answered: Answered = yield* checked.stream ? written(prompt, asked, output) : chat.complete(prompt, asked)
      const provider = yield* providerOf(answered)
      const modelId = `${provider}:${answered.model}`
      const metrics = metricsOf(answered, provider, startTime, now())
      if (!checked.stream && checked.chat) yield* writeTo(output, `${answered.text}${lineEnd(answered.text)}`)
      if (displayMetrics && (checked.stream || checked.chat)) {
        yield* writeTo(output, `[${metricsLine(modelId, metrics)}]\n`)
      }
      const { warnings } = answered
      return {
        requestId,
        modelId,
        response: answered.text,
        metrics,
        routingDecision: plain(answered.decision),
        attempts: answered.attempts,
        agentChecks: { resources, connectivity },
        sessionId: session,
        ...(warnings === undefined ? {} : { warnings })
      }
    })

    if (!checked.chat || lines === undefined) return yield* ask(checked.prompt, checked.sessionId)
    const { last, sessionId } = yield* converse({
      sessions,
      first: checked.prompt,
      sessionId: checked.sessionId,
      private: options.private ?? undefined,
      lines,
      write: (text) => writeTo(output, text),
      ask
    })
    return { ...last, sessionId }
  })

  return Execute.of({ execute })
})

/**
 * The service as a layer.
 *
 * @since 0.2.0
 * @category layers
 */
export const layer: Layer.Layer<Execute, never, Chat | Conditions | Registry | Sessions> = Layer.effect(Execute, make)

/**
 * Answers a prompt, or holds a conversation, with everything that is known of the answer.
 *
 * @example
 * import { Execute } from "aicortex"
 * import { Effect } from "effect"
 *
 * const capital = Execute.execute({ prompt: "What is the capital of France?", stream: false }).pipe(
 *   Effect.map(({ modelId, response }) => `${modelId} says: ${response}`)
 * )
 *
 * @since 0.2.0
 * @category accessors
 */
export const execute = (options: Options): Effect.Effect<Executed, ChatError, Execute> =>
  Effect.flatMap(Execute, (self) => self.execute(options))
