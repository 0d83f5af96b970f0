/** What a driver's error says, in one line. */
import type { SqlError } from "@effect/sql/SqlError"

export const isSqlError = (error: unknown): error is SqlError =>
  typeof error === "object" && error !== null && "_tag" in error && error._tag === "SqlError"

const messageOf = (value: unknown): string => {
  // Several addresses of one host were tried.
  if (value instanceof AggregateError && value.message === "") return messageOf(value.errors[0])
  return value instanceof Error ? value.message : String(value)
}

/** The driver's words: the wrapper only says that a statement failed. */
export const described = (error: SqlError): string =>
  messageOf(error.cause ?? error.message)
    .replace(/\s+/g, " ")
    .trim()
