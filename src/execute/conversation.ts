/** The interactive conversation of `execute({ chat: true })`: one question after the other, until the end. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { ChatError, InvalidRequest, SessionsUnavailable } from "../Errors.js"
import * as Message from "../Message.js"
import type { Service as Sessions } from "../Sessions.js"
import type { Lines } from "./terminal.js"

export interface Setup<A> {
  readonly sessions: Sessions
  readonly first: string
  /** The conversation to continue; `undefined`: a new one. */
  readonly sessionId: string | undefined
  readonly private: boolean | undefined
  readonly lines: () => Lines
  readonly write: (text: string) => Effect.Effect<void>
  /** Asks a question in a conversation, and writes the answer. */
  readonly ask: (question: string, sessionId: string) => Effect.Effect<A, ChatError>
}

/** How many messages of a conversation that is loaded are shown. */
const shownMessages = 3

/** How many conversations are listed. */
const listed = 50

/**
 * Asks the first question and all further ones. The first one's failure is the call's; a later one's is written, and the
 * question is not stored. Gives the last answer, and the conversation that it belongs to.
 */
export const converse = <A>({
  ask,
  first,
  lines,
  private: isPrivate,
  sessionId,
  sessions,
  write
}: Setup<A>): Effect.Effect<
  { readonly last: A; readonly sessionId: string },
  ChatError | InvalidRequest | SessionsUnavailable
> =>
  Effect.gen(function* () {
    const created = sessionId === undefined
    let { id } = created ? yield* sessions.create({ private: isPrivate }) : yield* sessions.resume(sessionId)
    const unused = Effect.ignore(sessions.remove(id))
    let last = yield* created ? Effect.onError(ask(first, id), () => unused) : ask(first, id)

    const list = Effect.gen(function* () {
      const all = yield* sessions.list({ limit: listed })
      const line = (one: (typeof all)[number]) =>
        `${one.id === id ? "*" : " "} ${one.id}  ${one.messages} messages  ${one.opening ?? ""}`.trimEnd()
      yield* write(`${all.map(line).join("\n")}\n`)
    })
    const load = Effect.fnUntraced(function* (other: string) {
      const history = yield* sessions.history(other)
      id = other
      const shown = history.slice(-shownMessages).map((message) => `${message.role}: ${Message.text(message)}\n`)
      yield* write(shown.join(""))
    })
    const answer = (line: string) =>
      Effect.map(ask(line, id), (answered) => {
        last = answered
      })
    const handle = (line: string) => {
      if (line === "/list") return list
      const loaded = /^\/load\s+(\S+)$/.exec(line)?.[1]
      return loaded === undefined ? answer(line) : load(loaded)
    }
    const talk = (input: Lines) =>
      Effect.gen(function* () {
        while (true) {
          const line = (yield* Effect.promise(() => input.next()))?.trim()
          if (line === undefined || line === "exit" || line === "/exit") return
          if (line === "") continue
          const exit = yield* Effect.exit(handle(line))
          if (Exit.isSuccess(exit)) continue
          if (Cause.isInterrupted(exit.cause) || Cause.isDie(exit.cause)) {
            return yield* Effect.failCause(exit.cause as Cause.Cause<never>)
          }
          yield* write(`${(Cause.squash(exit.cause) as Error).message}\n`)
        }
      })
    yield* Effect.acquireUseRelease(Effect.sync(lines), talk, (input) => Effect.sync(() => input.close()))
    yield* write(`Session: ${id}\n`)
    return { last, sessionId: id }
  })
