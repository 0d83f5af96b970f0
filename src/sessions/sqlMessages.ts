/** Messages as a store has them: JSON, and what was said in them, for searches. */
import * as Schema from "effect/Schema"
import { Message } from "../Message.js"
import * as Summary from "./summary.js"

const Messages = Schema.parseJson(Schema.Array(Message))

export const decodeMessages = Schema.decode(Messages)
export const encodeMessages = Schema.encodeSync(Messages)

/** PostgreSQL has no NUL in texts. JSON has it escaped. */
export const withoutNul = (value: string): string => value.replaceAll("\u0000", "")

/** In lower case. */
export const wordsOf = (messages: ReadonlyArray<Message>): string => withoutNul(Summary.wordsOf(messages))
