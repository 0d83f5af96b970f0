/** Which errors the answer of a server can fail with. */
import { type ChatError, isChatError } from "../Errors.js"

/** Exactly the errors of the type `ChatError`: a schema is checked, and settings are read, outside of an answer. */
export const isAnswerError = <A>(value: A): value is A & ChatError =>
  isChatError(value) && value._tag !== "SchemaMismatch" && value._tag !== "InvalidConfig"
