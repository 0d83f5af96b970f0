/** An interactive conversation: one question per line, until the end of input. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as ConfigFile from "../../config/file.js"
import { isChatError } from "../../Errors.js"
import * as Sessions from "../../Sessions.js"
import { CommandFailed, messageOf } from "../errors.js"
import * as Output from "../output.js"
import * as Lines from "./lineReader.js"

const help = "/reset forgets what was said, /exit or Ctrl-D ends, and Ctrl-C stops an answer"

const endsConversation: ReadonlySet<string> = new Set(["/exit", "/quit", "/bye", "exit", "quit", "exit()"])

/** A failure of standard output, or a bug: the conversation cannot continue. */
const isFinal = (cause: Cause.Cause<unknown>): boolean => {
  if (Cause.isInterruptedOnly(cause)) return false
  const error = Cause.squash(cause)
  return !(isChatError(error) || error instanceof CommandFailed) || Cause.isDie(cause)
}

/**
 * Answers typed questions in one session, a given or a new one. A failed question is reported and not stored: it can be
 * asked again. If not on a terminal, a failure ends the conversation. An empty session is not kept.
 */
export const runInteractive = Effect.fnUntraced(function* <E, R>(
  named: string | undefined,
  turn: (prompt: string, session: string) => Effect.Effect<void, E, R>
) {
  const sessions = yield* Sessions.Sessions
  const terminal = process.stdin.isTTY === true && process.stdout.isTTY === true
  const { id } = yield* named === undefined ? sessions.create() : sessions.resume(named)
  const place = { path: ["chat"], flags: new Map<string, unknown>(), file: yield* ConfigFile.filePath }
  const lines = yield* Lines.make
  if (terminal) yield* Output.dimNotice(help)

  const ask = Effect.fnUntraced(function* (line: string) {
    if (!terminal) return yield* turn(line, id)
    const exit = yield* Effect.exit(Effect.raceFirst(turn(line, id), lines.stopped))
    if (Exit.isSuccess(exit)) return
    if (isFinal(exit.cause)) return yield* exit
    const error = Cause.squash(exit.cause)
    yield* Output.notice(error instanceof Error ? messageOf(error, place) : String(error))
  })

  const talk = Effect.gen(function* () {
    while (true) {
      const line = (yield* lines.next)?.trim()
      if (line === undefined || endsConversation.has(line)) return
      if (line === "") continue
      if (line === "/reset") yield* sessions.reset(id)
      else if (line === "/help" || line === "/?") yield* Output.dimNotice(help)
      else yield* ask(line)
    }
  })

  const close = Effect.gen(function* () {
    if (named === undefined && (yield* sessions.history(id)).length === 0) return yield* sessions.remove(id)
    if (terminal) yield* Output.dimNotice(`go on with this conversation: aicortex chat --session ${id}`)
  })
  // The earlier error is more important.
  yield* Effect.onExit(talk, (exit) => (Exit.isSuccess(exit) ? Effect.void : Effect.ignore(close)))
  yield* close
}, Effect.scoped)
