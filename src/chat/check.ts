/** Validates the arguments of a call. */
import * as Either from "effect/Either"
import * as CallDefaults from "../CallDefaults.js"
import * as ChatRequest from "../ChatRequest.js"
import { type ChatError, InvalidRequest, PersonaNotFound } from "../Errors.js"
import { withoutNulls } from "../internal/optionSchemas.js"
import * as Message from "../Message.js"
import type { Service as ModelSelection } from "../ModelSelection.js"
import * as ResponseCache from "../ResponseCache.js"
import { isPrivate, type Session } from "../Sessions.js"
import type { Settings } from "../Settings.js"
import * as StructuredOutput from "../StructuredOutput.js"
import type { Execution } from "./execution.js"
import type { AnyTool, Tool } from "./tool.js"
import type { Toolkit } from "./toolkit.js"

/**
 * What to answer: a prompt, or a whole conversation.
 *
 * @since 0.1.0
 * @category models
 */
export type Prompt =
  | string
  | ReadonlyArray<Message.Message>
  | {
      /** The conversation, the oldest message first. */
      readonly messages: ReadonlyArray<Message.Message>
    }

/**
 * The options of a call: see `ChatRequest.Options` for the plain data options, with their ranges and defaults.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options extends Omit<ChatRequest.Options, "tools"> {
  /** A session, or its id: continues the conversation, and stores the turn when the answer is complete. */
  readonly session?: Session | string | undefined
  /** With or without `execute`. */
  readonly tools?: ReadonlyArray<Tool> | undefined
  /**
   * How often in one call the model may call tools, default 8; after that the answer ends with its tool calls
   * unanswered.
   */
  readonly maxToolRounds?: number | undefined
}

/** The options of a call with tools of a known type. */
export type WithTools<T extends ReadonlyArray<AnyTool>> = Omit<Options, "tools"> & { readonly tools?: T | undefined }

const isMessages = (prompt: Prompt): prompt is ReadonlyArray<Message.Message> => Array.isArray(prompt)

const turnMessages = (prompt: Prompt): Either.Either<ReadonlyArray<Message.Message>, InvalidRequest> => {
  if (typeof prompt === "string") {
    return prompt === ""
      ? Either.left(new InvalidRequest({ field: "prompt", reason: "is empty; ask something" }))
      : Either.right([Message.user(prompt)])
  }
  const messages: unknown = isMessages(prompt) ? prompt : prompt?.messages
  if (!isMessages(prompt) && Array.isArray(messages)) {
    const other = Object.keys(prompt).find((key) => key !== "messages")
    const reason = "does not belong beside messages; options are the second argument"
    if (other !== undefined) return Either.left(new InvalidRequest({ field: other, reason }))
  }
  return Array.isArray(messages)
    ? ChatRequest.decodeMessages(messages)
    : Either.left(
        new InvalidRequest({ field: "prompt", reason: "must be a text, a list of messages, or { messages }" })
      )
}

const defaultToolRounds = 8

const none: ReadonlyArray<[number, unknown]> = []

/** The plain data of the options. */
const decodePlain = (options: Options, definitions: unknown): unknown => {
  if (!("tools" in options || "session" in options || "maxToolRounds" in options)) return options
  const { maxToolRounds: _rounds, session: _session, tools: _tools, ...rest } = options
  return definitions === undefined ? rest : { ...rest, tools: definitions }
}

/** Why a text completion cannot have these options: nothing can be added around the text. */
const checkTextOnly = (
  { persona, raw, suffix, system, think, toolChoice, tools }: ChatRequest.Options,
  session: string | undefined,
  format: ChatRequest.Format,
  messages: ReadonlyArray<Message.Message>
): InvalidRequest | undefined => {
  const name = raw === true ? "raw" : "suffix"
  if (raw === true && suffix !== undefined) {
    const reason = "cannot be given together with raw: the server puts both texts into the model's own form"
    return new InvalidRequest({ field: "suffix", reason })
  }
  const excluded = {
    system,
    persona,
    session,
    tools: tools?.length === 0 ? undefined : tools,
    toolChoice,
    think: think === false ? undefined : think
  }
  for (const [field, value] of Object.entries(excluded)) {
    if (value === undefined) continue
    const reason = `cannot be given together with ${name}: the model gets the text alone, without a chat template`
    return new InvalidRequest({ field, reason })
  }
  if (format !== "text") {
    return new InvalidRequest({ field: name, reason: "cannot be given where JSON is asked for; ask for text" })
  }
  const [only] = messages
  if (messages.length !== 1 || only?.role !== "user" || only.name !== undefined || Message.images(only).length > 0) {
    return new InvalidRequest({ field: "messages", reason: `must be one text of the user together with ${name}` })
  }
  return undefined
}

/** Validates a call before anything is sent or awaited. */
export const checkCall = (
  prompt: Prompt,
  given: Options | undefined,
  format: ChatRequest.Format,
  settings: Settings,
  models: Pick<ModelSelection, "select">,
  toolkit: Toolkit = { definitions: given?.tools, executors: undefined }
): Either.Either<Execution, ChatError> => {
  if (given !== undefined && typeof given !== "object") {
    return Either.left(new InvalidRequest({ field: "options", reason: "must be an object" }))
  }
  const unchecked: Options = withoutNulls(given ?? {})
  const { maxToolRounds = defaultToolRounds, session } = unchecked
  if (!Number.isSafeInteger(maxToolRounds) || maxToolRounds < 1) {
    return Either.left(new InvalidRequest({ field: "maxToolRounds", reason: "must be a whole number from 1" }))
  }
  const id: unknown = typeof session === "object" && session !== null ? session.id : session
  if ((id !== undefined && typeof id !== "string") || (id === undefined && session !== undefined)) {
    return Either.left(new InvalidRequest({ field: "session", reason: "must be a session or its id" }))
  }
  const { definitions, executors } = toolkit
  for (const [at, tool] of Array.isArray(definitions) ? definitions.entries() : none) {
    const parameters = typeof tool === "object" && tool !== null ? (tool as Tool).parameters : undefined
    const wrong = StructuredOutput.checkSize(parameters, `tools.${at}.parameters`, {
      maxBytes: settings.maxSchemaBytes
    })
    if (wrong !== undefined) return Either.left(wrong)
  }
  const decoded = ChatRequest.decodeOptions(decodePlain(unchecked, definitions))
  if (Either.isLeft(decoded)) return Either.left(decoded.left)
  const options = decoded.right
  const { toolChoice } = options
  const names = options.tools?.map(({ name }) => name) ?? []
  const twice = names.findIndex((name, at) => names.indexOf(name) !== at)
  if (twice >= 0) {
    const reason = `'${names[twice]}' is the name of another tool of this call, too; each needs one of its own`
    return Either.left(new InvalidRequest({ field: `tools.${twice}.name`, reason }))
  }
  if (toolChoice === "required" && (options.tools ?? []).length === 0) {
    return Either.left(new InvalidRequest({ field: "toolChoice", reason: "is given without tools" }))
  }
  if (typeof toolChoice === "object" && !options.tools?.some(({ name }) => name === toolChoice.name)) {
    const reason = `names '${toolChoice.name}', which is not among tools`
    return Either.left(new InvalidRequest({ field: "toolChoice", reason }))
  }
  const newMessages = turnMessages(prompt)
  if (Either.isLeft(newMessages)) return Either.left(newMessages.left)
  if (ChatRequest.completes(options)) {
    const wrong = checkTextOnly(options, id, format, newMessages.right)
    if (wrong !== undefined) return Either.left(wrong)
  }
  let system = options.system
  if (options.persona !== undefined) {
    if (system !== undefined) {
      return Either.left(
        new InvalidRequest({ field: "persona", reason: "cannot be given together with system; use one of them" })
      )
    }
    system = Object.hasOwn(settings.personas, options.persona) ? settings.personas[options.persona] : undefined
    if (system === undefined) {
      const known = Object.keys(settings.personas).sort()
      return Either.left(new PersonaNotFound({ persona: options.persona, known }))
    }
  }
  if (format !== "text") system = StructuredOutput.withInstruction(system)
  const complete = CallDefaults.forChat(options, settings.defaults)
  const messages = system === undefined ? newMessages.right : [Message.system(system), ...newMessages.right]
  const ofSession = id !== undefined && isPrivate(id)
  const localOnly = ofSession || complete.private === true
  if (options.private === true && id !== undefined && !ofSession && settings.defaults.private !== true) {
    const reason = "must hold for a whole session: create it with private: true"
    return Either.left(new InvalidRequest({ field: "private", reason }))
  }
  const { owner, priority, routing = ChatRequest.defaults.routing } = complete
  const request = ChatRequest.make(complete, options.model ?? settings.model, messages, format)
  return Either.right({
    request,
    models: models.select(request.model, { request }, localOnly ? { private: true } : undefined),
    limits: ChatRequest.limits(complete, settings.hedge),
    routing,
    routeHints: localOnly ? { owner, priority, private: true } : { owner, priority },
    cacheTtl: executors === undefined ? ResponseCache.ttlOf(options.cache, settings) : undefined,
    cacheOwner: owner,
    session: id,
    executors,
    maxToolRounds
  })
}
