/** The conversation that is held: where it is kept, whom it asks and how, and what its answers cost. */
import * as Effect from "effect/Effect"
import type * as Chat from "../../../Chat.js"
import type { ChatEvent, End } from "../../../ChatEvent.js"
import * as Message from "../../../Message.js"
import * as Sessions from "../../../Sessions.js"
import { CommandFailed } from "../../errors.js"

/** How answers are shown. */
export interface ViewSettings {
  verbose: boolean
  markdown: boolean
}

export interface Totals {
  answers: number
  promptTokens: number
  completionTokens: number
  failedAttempts: number
}

/** What follows a command: a question, or the end. `failed` runs if the question is not answered. */
export type Next =
  | {
      readonly type: "ask"
      readonly question: Message.Content
      readonly failed: Effect.Effect<void, Sessions.Unreachable, Sessions.Sessions>
    }
  | { readonly type: "leave" }

export interface Conversation {
  /** The id of its session. */
  id: string
  /** Sessions that were begun here: those in which nothing is said are not kept. */
  readonly begun: Set<string>
  /** The model that was named; `undefined`: the default. */
  model: string | undefined
  /** The model that answers if none is named. */
  defaultModel: string
  /** The options of the next question, without model and session. */
  options: Chat.Options
  /** They go with the next question. */
  images: ReadonlyArray<Message.ImagePart>
  /** The last question, if it was not stored because its answer failed. */
  failed: Message.Content | undefined
  last: { readonly end: End; readonly cached: boolean } | undefined
  totals: Totals
  readonly view: ViewSettings
  /** What a command asks for. */
  next: Next | undefined
}

export const noTotals = (): Totals => ({ answers: 0, promptTokens: 0, completionTokens: 0, failedAttempts: 0 })

/** The model that will be asked. */
export const modelOf = ({ defaultModel, model }: Conversation): string => model ?? defaultModel

// =============================================================================
// Answers
// =============================================================================

/** What has come of an answer. */
export class Progress {
  readonly #pieces: Array<string> = []
  end: End | undefined
  cached = false

  get text(): string {
    return this.#pieces.join("")
  }

  add(event: ChatEvent): void {
    if (event.type === "token") this.#pieces.push(event.content)
    else if (event.type === "restart") this.#pieces.length -= event.discard
    else if (event.type === "end") this.end = event
    else if (event.type === "meta" && event.meta.type === "cached") this.cached = true
  }
}

export const count = (conversation: Conversation, end: End, cached: boolean): void => {
  const { totals } = conversation
  conversation.last = { end, cached }
  totals.answers++
  totals.promptTokens += end.usage.promptTokens ?? 0
  totals.completionTokens += end.usage.completionTokens ?? 0
  totals.failedAttempts += end.attempts.length
}

// =============================================================================
// What is stored
// =============================================================================

/** How an answer ends that the user has stopped, for who reads it later: the model, too. */
const cutMark = "[interrupted by the user]"

const withTurn = <A, E, R>(id: string, use: (turn: Sessions.Turn) => Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    Effect.flatMap(Sessions.Sessions, (sessions) => sessions.begin(id)),
    use,
    (turn) => Effect.sync(turn.release)
  )

/** Stores an answer that the user has stopped. */
export const storeCut = (id: string, question: Message.Content, text: string) =>
  withTurn(id, (turn) => turn.commit([Message.user(question), Message.assistant(`${text.trimEnd()}\n\n${cutMark}`)]))

/** Replaces all messages of a conversation. */
const replace = (turn: Sessions.Turn, messages: ReadonlyArray<Message.Message>) =>
  Effect.uninterruptible(
    Effect.zipRight(
      Effect.flatMap(Sessions.Sessions, (sessions) => sessions.reset(turn.id)),
      turn.commit(messages)
    )
  )

/** Removes the last question with its answer. */
export const takeBack = (id: string) =>
  withTurn(
    id,
    Effect.fnUntraced(function* (turn) {
      const at = turn.history.findLastIndex(({ role }) => role === "user")
      const message = turn.history[at]
      if (message?.role !== "user") return yield* new CommandFailed({ message: "nothing was asked yet" })
      yield* replace(turn, turn.history.slice(0, at))
      return { question: message.content, removed: turn.history.slice(at) }
    })
  )

/** Puts back what `takeBack` has removed. */
export const putBack = (id: string, messages: ReadonlyArray<Message.Message>) =>
  withTurn(id, (turn) => turn.commit(messages))

/** Goes to another conversation; the one before is kept if something was said in it. */
export const switchTo = Effect.fnUntraced(function* (conversation: Conversation, id: string) {
  const before = conversation.id
  conversation.id = id
  conversation.images = []
  conversation.failed = undefined
  conversation.last = undefined
  conversation.totals = noTotals()
  if (before !== id) yield* dropIfEmpty(conversation, before)
})

/** Removes a session that was begun here if nothing was said in it; whether it is kept. */
export const dropIfEmpty = Effect.fnUntraced(function* ({ begun }: Conversation, id: string) {
  const sessions = yield* Sessions.Sessions
  if (!begun.has(id) || (yield* sessions.history(id)).length > 0) return true
  begun.delete(id)
  yield* sessions.remove(id)
  return false
})

/** Begins a conversation. */
export const begin = Effect.fnUntraced(function* (begun: Set<string>, messages: ReadonlyArray<Message.Message> = []) {
  const sessions = yield* Sessions.Sessions
  const { id } = yield* sessions.create({ messages })
  begun.add(id)
  return id
})

/** The id of the conversation that was used last. */
export const lastUsed = Effect.gen(function* () {
  const sessions = yield* Sessions.Sessions
  // A gateway that shares the folder begins the ids of its own with an owner.
  const mine = (yield* sessions.list()).find(({ id, messages }) => messages > 0 && /^[0-9a-f]{16}$/.test(id))
  return mine === undefined ? yield* new CommandFailed({ message: "there is no conversation to go on with" }) : mine.id
})
