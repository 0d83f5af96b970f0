/** Where messages come from: a line editor on a terminal, lines otherwise. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Lines from "../lineReader.js"
import * as Blocks from "./blocks.js"
import { Keyboard } from "./keyboard.js"
import * as LineEditor from "./lineEditor.js"

export interface Messages {
  /** The next one, without the marks of a block; `undefined` at the end. */
  readonly next: Effect.Effect<string | undefined>
  /** Ends when Ctrl-C is pressed, on a terminal. */
  readonly stopped: Effect.Effect<void>
}

/** A terminal that can move its cursor. Belongs to the scope. */
export const ofTerminal = (
  options: Effect.Effect<LineEditor.ReadOptions>
): Effect.Effect<Messages, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const keyboard = new Keyboard()
        keyboard.open()
        return keyboard
      }),
      (keyboard) => Effect.sync(() => keyboard.close())
    ),
    (keyboard): Messages => ({
      next: Effect.flatMap(options, (given) =>
        Effect.async((resume) => {
          const cancel = LineEditor.read(keyboard, given, (text) => resume(Effect.succeed(text)))
          return Effect.sync(cancel)
        })
      ),
      stopped: Effect.async((resume) => {
        const off = keyboard.onInterrupt(() => {
          off()
          resume(Effect.void)
        })
        return Effect.sync(off)
      })
    })
  )

/** Lines of a pipe, a file or a simple terminal. */
export const ofLines: Effect.Effect<Messages, never, Scope.Scope> = Effect.map(Lines.make, ({ next, stopped }) => ({
  next: Effect.gen(function* () {
    let text = yield* next
    while (text !== undefined && (Blocks.goesOn(text) || Blocks.isOpenBlock(text))) {
      const more: string | undefined = yield* next
      if (more === undefined) break
      text = Blocks.goesOn(text) ? `${text.slice(0, -1)}\n${more}` : `${text}\n${more}`
    }
    return text
  }),
  stopped
}))
