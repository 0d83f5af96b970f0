/** Which errors the answer of a server can fail with. */
import { ChatError, isChatError } from "../Errors.js"

const tags: ReadonlySet<string> = new Set(ChatError.members.map(({ _tag }) => _tag))

/**
 * Exactly the errors of the type `ChatError`: a schema is checked, settings are read, and models are started outside of an
 * answer.
 */
export const isAnswerError = <A>(value: A): value is A & ChatError => isChatError(value) && tags.has(value._tag)
