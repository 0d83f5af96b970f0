/** An interactive conversation: one question after the other, until the end of input. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Runtime from "effect/Runtime"
import * as Stream from "effect/Stream"
import type * as Chat from "../../Chat.js"
import type { ChatEvent } from "../../ChatEvent.js"
import * as ConfigFile from "../../config/file.js"
import { type ChatError, isChatError } from "../../Errors.js"
import * as Message from "../../Message.js"
import { ModelSelection } from "../../ModelSelection.js"
import * as Sessions from "../../Sessions.js"
import { CurrentSettings } from "../../Settings.js"
import { CommandFailed, messageOf, type OutputClosed } from "../errors.js"
import * as Output from "../output.js"
import * as AnswerPrinter from "./interactive/answerPrinter.js"
import * as Blocks from "./interactive/blocks.js"
import type { Services } from "./interactive/command.js"
import * as Commands from "./interactive/commands.js"
import * as Conversation from "./interactive/conversation.js"
import * as History from "./interactive/history.js"
import type { Completions, ReadOptions } from "./interactive/lineEditor.js"
import { lineWidth } from "./interactive/listing.js"
import { wrap } from "./interactive/markdown.js"
import * as Messages from "./interactive/messages.js"
import { describe } from "./interactive/sessionCommands.js"

type Events = Stream.Stream<ChatEvent, ChatError>

/** Prints events; `begun` runs before anything is written. */
export type Print = (
  events: Events,
  begun: Effect.Effect<void>,
  verbose: boolean
) => Effect.Effect<void, ChatError | CommandFailed | OutputClosed>

export interface Setup<E, R> {
  /** The conversation to go on with; `undefined`: a new one. */
  readonly session: string | undefined
  /** Go on with the one that was used last. */
  readonly continues: boolean
  /** The options of the first question, without its session. */
  readonly options: Chat.Options
  readonly verbose: boolean
  /** Prints an answer where the terminal cannot move its cursor, or there is none. */
  readonly plain: Print
  /** Asks, and has the answer printed. */
  readonly ask: (prompt: Chat.Prompt, options: Chat.Options, print: Print) => Effect.Effect<void, E, R>
}

const leaving = "to leave, press Ctrl-D or type /exit"
const placeholder = "Send a message (/help for help)"

/** A failure of standard output, or a bug: the conversation cannot continue. */
const isFinal = (cause: Cause.Cause<unknown>): boolean => {
  if (Cause.isInterruptedOnly(cause)) return false
  const error = Cause.squash(cause)
  return !(isChatError(error) || error instanceof CommandFailed) || Cause.isDie(cause)
}

/** The model that answers where none is named, as far as it is known. */
const defaultModel = Effect.gen(function* () {
  const { model } = yield* CurrentSettings
  const selection = yield* ModelSelection
  const candidates = yield* Effect.orElseSucceed(selection.select(model), () => [])
  return candidates[0]?.name ?? model
})

const historyOf = (terminal: boolean) =>
  terminal
    ? Effect.catchAll(Effect.flatMap(ConfigFile.chatHistory, History.open), (error) =>
        Effect.as(Output.notice(error.message), History.inMemory())
      )
    : Effect.succeed(History.inMemory())

/** The content of a question, with the images that were added. */
const contentOf = (text: string, images: ReadonlyArray<Message.ImagePart>): Message.Content =>
  images.length === 0 ? text : [{ type: "text", text }, ...images]

const promptOf = (question: Message.Content): Chat.Prompt =>
  typeof question === "string" ? question : [Message.user(question)]

const begin = Effect.fnUntraced(function* ({
  continues,
  options,
  session,
  verbose
}: Pick<Setup<never, never>, "continues" | "options" | "session" | "verbose">) {
  const sessions = yield* Sessions.Sessions
  const begun = new Set<string>()
  const named = continues ? yield* Conversation.lastUsed : session
  const { model, session: _, ...others } = options
  const conversation: Conversation.Conversation = {
    id: named === undefined ? yield* Conversation.begin(begun) : (yield* sessions.resume(named)).id,
    begun,
    model,
    defaultModel: yield* defaultModel,
    options: others,
    images: [],
    failed: undefined,
    last: undefined,
    totals: Conversation.noTotals(),
    view: { verbose, markdown: true },
    next: undefined
  }
  return conversation
})

/**
 * Answers typed questions in one session, a given or a new one. A failed question is reported and not stored: it can be
 * asked again. If not on a terminal, a failure ends the conversation. An empty session is not kept.
 */
export const runInteractive = Effect.fnUntraced(function* <E extends Error, R>(setup: Setup<E, R>) {
  const terminal = process.stdin.isTTY === true && process.stdout.isTTY === true
  const rich = terminal && Output.isTerminal(process.stdout)
  const conversation = yield* begin(setup)
  const history = yield* historyOf(rich)
  const place = { path: ["chat"], flags: new Map<string, unknown>(), file: yield* ConfigFile.filePath }
  const runtime = yield* Effect.runtime<Services>()

  const complete = (before: string): Promise<Completions> =>
    Runtime.runPromise(runtime)(
      Effect.orElseSucceed(Commands.complete(before, conversation), () => ({ from: before.length, candidates: [] }))
    )
  const readOptions = Effect.sync(
    (): ReadOptions => ({
      prompt: `${Output.bold(Output.withoutControls(Conversation.modelOf(conversation)), process.stdout)}> `,
      placeholder,
      history: history.entries,
      complete,
      leaving
    })
  )
  const messages = yield* rich ? Messages.ofTerminal(readOptions) : Messages.ofLines

  /** The output of commands: off a terminal, standard output is for answers only. */
  const tell = (text: string): Effect.Effect<void> =>
    Effect.sync(() => {
      const lines = Output.withoutControls(text)
        .split("\n")
        .flatMap((line) => wrap(line, lineWidth()))
      void (terminal ? process.stdout : process.stderr).write(`${lines.join("\n")}\n`)
    })

  const print: Print = (events, begun, verbose) =>
    rich ? AnswerPrinter.print(events, begun, conversation.view) : setup.plain(events, begun, verbose)

  /** Reports a failure, if the conversation can go on. */
  const report = Effect.fnUntraced(function* (cause: Cause.Cause<E | Error>) {
    if (!terminal || isFinal(cause)) return yield* Effect.failCause(cause)
    const error = Cause.squash(cause)
    yield* Output.notice(error instanceof Error ? messageOf(error, place) : String(error))
  })

  /** `failed` runs if the question is not answered. */
  const ask = Effect.fnUntraced(function* (question: Message.Content, failed: Effect.Effect<void, Error, Services>) {
    const { id, options } = conversation
    const progress = new Conversation.Progress()
    const follow = (events: Events): Events =>
      Stream.mapChunks(events, (chunk) => {
        for (const event of chunk) progress.add(event)
        return chunk
      })
    const asking = setup.ask(
      promptOf(question),
      { ...options, model: conversation.model, session: id },
      (events, begun) => print(follow(events), begun, conversation.view.verbose)
    )
    const exit = yield* Effect.exit(
      terminal
        ? Effect.raceFirst(Effect.as(asking, false), Effect.as(messages.stopped, true))
        : Effect.as(asking, false)
    )
    const { cached, end, text } = progress
    if (end !== undefined) {
      Conversation.count(conversation, end, cached)
      if (conversation.model === undefined) conversation.defaultModel = end.model
      conversation.failed = undefined
      conversation.images = []
      return Exit.isSuccess(exit) ? undefined : yield* report(exit.cause)
    }
    if (Exit.isSuccess(exit) && exit.value && text !== "") {
      yield* Conversation.storeCut(id, question, text)
      conversation.failed = undefined
      conversation.images = []
      return yield* Output.dimNotice("stopped; what was said until here is part of the conversation")
    }
    yield* failed
    conversation.failed = question
    yield* Exit.isFailure(exit) ? report(exit.cause) : Output.dimNotice("stopped")
  })

  const talk = Effect.gen(function* () {
    if (terminal && !conversation.begun.has(conversation.id)) yield* tell(yield* describe(conversation.id))
    while (true) {
      const text = yield* messages.next
      if (text === undefined) return
      if (text.trim() === "") continue
      yield* Effect.catchAll(history.add(text), ({ message }) => Output.notice(message))
      const command = Commands.commandOf(text)
      if (command === undefined) {
        yield* ask(contentOf(Blocks.messageOf(text), conversation.images), Effect.void)
        continue
      }
      const exit = yield* Effect.exit(Commands.run(command, conversation, tell))
      if (Exit.isFailure(exit)) yield* report(exit.cause)
      const { next } = conversation
      conversation.next = undefined
      if (next?.type === "leave") return
      if (next?.type === "ask") yield* ask(next.question, next.failed)
    }
  })

  const close = Effect.gen(function* () {
    const { id } = conversation
    const kept = yield* Conversation.dropIfEmpty(conversation, id)
    if (kept && terminal) yield* Output.dimNotice(`continue this conversation: aicortex chat --session ${id}`)
  })
  // The earlier error is more important.
  yield* Effect.onExit(talk, (exit) => (Exit.isSuccess(exit) ? Effect.void : Effect.ignore(close)))
  yield* close
}, Effect.scoped)
