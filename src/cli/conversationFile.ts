/** Messages in a file: a list of them, or a conversation as `sessions show --json` writes it. */
import * as Either from "effect/Either"
import * as ChatRequest from "../ChatRequest.js"
import type * as Message from "../Message.js"
import { CommandFailed } from "./errors.js"

/** The messages in a text; `source` says in messages where it is from. A list without any is refused, unless it may be empty. */
export const messagesIn = (
  text: string,
  source: string,
  { mayBeEmpty = false }: { readonly mayBeEmpty?: boolean } = {}
): Either.Either<ReadonlyArray<Message.Message>, CommandFailed> =>
  Either.gen(function* () {
    const value = yield* Either.try({
      try: (): unknown => JSON.parse(text.replace(/^\uFEFF/, "")),
      catch: () => new CommandFailed({ message: `${source} is not JSON` })
    })
    const messages: unknown =
      typeof value === "object" && value !== null && "messages" in value ? value.messages : value
    if (mayBeEmpty && Array.isArray(messages) && messages.length === 0) return []
    return yield* Either.mapLeft(
      ChatRequest.decodeMessages(messages),
      ({ field, reason }) => new CommandFailed({ message: `${source} holds no conversation: ${field}: ${reason}` })
    )
  })
