/** An answer by one of the models that may give it, before it starts. */
import type { OpenAnswer } from "../Failover.js"
import type { Message } from "../Message.js"
import type { ModelCandidate } from "../ModelSelection.js"

/**
 * An answer that was not started yet: `start` is called once; `newMessages` are those that the call adds to the
 * conversation, and `candidate` is the model that is asked.
 */
export interface PendingAnswer {
  readonly start: () => OpenAnswer
  readonly newMessages: () => ReadonlyArray<Message>
  readonly candidate: () => ModelCandidate
}

/** The answer by the candidate with the index `at`. */
export interface ModelAttempt {
  readonly at: number
  readonly pending: PendingAnswer
}
