/**
 * Messages between those who use one store at the same time. None is stored: a process that is not connected misses
 * them.
 */
import type { SqlError } from "@effect/sql/SqlError"
import type * as Effect from "effect/Effect"

/** The longest message, in bytes: PostgreSQL takes 8,000 with what goes around it. */
export const maxMessage = 7_500

/** How the processes that use a store hear each other. */
export interface Channel {
  /** Tells everybody who listens, this process included; at most `maxMessage` bytes. */
  readonly send: (text: string) => Effect.Effect<void, SqlError>
  /** Receives messages from now on, until it fails or is interrupted. */
  readonly listen: (hear: (text: string) => void) => Effect.Effect<void, SqlError>
  /**
   * Ends connections on which nothing has come for so many milliseconds: where the network is cut, nothing else does.
   */
  readonly dropSilent: (silence: number) => void
}
