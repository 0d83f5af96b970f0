/**
 * Messages of a conversation, in one neutral form that every backend translates.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * A piece of text.
 *
 * @since 0.1.0
 * @category models
 */
export const TextPart = Schema.Struct({ type: Schema.Literal("text"), text: Schema.String })
/**
 * @since 0.1.0
 * @category models
 */
export type TextPart = typeof TextPart.Type

const Detail = Schema.Literal("auto", "low", "high")

/**
 * An image: base64 in `data` (with its `mediaType`, such as `image/png`), or, for servers that speak the OpenAI
 * API, an `http(s)` address in `url`. Ollama takes only `data`.
 *
 * `detail` is the image resolution for OpenAI-compatible servers; others ignore it.
 *
 * @since 0.1.0
 * @category models
 */
export const ImagePart = Schema.Union(
  Schema.Struct({
    type: Schema.Literal("image"),
    data: Schema.NonEmptyString,
    mediaType: Schema.NonEmptyString,
    detail: Schema.optional(Detail)
  }),
  Schema.Struct({
    type: Schema.Literal("image"),
    url: Schema.NonEmptyString,
    detail: Schema.optional(Detail)
  })
)
/**
 * @since 0.1.0
 * @category models
 */
export type ImagePart = typeof ImagePart.Type

/**
 * @since 0.1.0
 * @category models
 */
export const Content = Schema.Union(Schema.String, Schema.Array(Schema.Union(TextPart, ImagePart)))
/**
 * @since 0.1.0
 * @category models
 */
export type Content = typeof Content.Type

/**
 * A tool call of the model. `arguments` is the parsed object. `rawArguments` is present only if the model wrote
 * something else, such as truncated JSON: then it holds the text, and `arguments` is empty.
 *
 * @since 0.1.0
 * @category models
 */
export const ToolCall = Schema.Struct({
  id: Schema.String,
  name: Schema.String,
  arguments: Schema.Record({ key: Schema.String, value: Schema.Unknown }),
  rawArguments: Schema.optionalWith(Schema.String, { exact: true })
})
/**
 * @since 0.1.0
 * @category models
 */
export type ToolCall = typeof ToolCall.Type

/** Distinguishes participants of the same role, on OpenAI-compatible servers; Ollama ignores it. */
const Name = Schema.optional(Schema.NonEmptyString)

/**
 * System instructions. `developer` is the newer OpenAI name; servers that do not know it get `system`.
 *
 * @since 0.1.0
 * @category models
 */
export const SystemMessage = Schema.Struct({
  role: Schema.Literal("system", "developer"),
  content: Schema.String,
  name: Name
})
/**
 * @since 0.1.0
 * @category models
 */
export type SystemMessage = typeof SystemMessage.Type

/**
 * @since 0.1.0
 * @category models
 */
export const UserMessage = Schema.Struct({ role: Schema.Literal("user"), content: Content, name: Name })
/**
 * @since 0.1.0
 * @category models
 */
export type UserMessage = typeof UserMessage.Type

/**
 * @since 0.1.0
 * @category models
 */
export const AssistantMessage = Schema.Struct({
  role: Schema.Literal("assistant"),
  content: Schema.String,
  name: Name,
  thinking: Schema.optional(Schema.String),
  toolCalls: Schema.optional(Schema.Array(ToolCall))
})
/**
 * @since 0.1.0
 * @category models
 */
export type AssistantMessage = typeof AssistantMessage.Type

/**
 * The result of a tool call: `toolCallId` and `toolName` name the call it answers.
 *
 * @since 0.1.0
 * @category models
 */
export const ToolMessage = Schema.Struct({
  role: Schema.Literal("tool"),
  content: Schema.String,
  toolCallId: Schema.String,
  toolName: Schema.String
})
/**
 * @since 0.1.0
 * @category models
 */
export type ToolMessage = typeof ToolMessage.Type

/**
 * @since 0.1.0
 * @category models
 */
export const Message = Schema.Union(SystemMessage, UserMessage, AssistantMessage, ToolMessage)
/**
 * @since 0.1.0
 * @category models
 */
export type Message = typeof Message.Type

/**
 * The plain text of a message; images are left out.
 *
 * @since 0.1.0
 * @category accessors
 */
export const text = (message: Message): string =>
  typeof message.content === "string"
    ? message.content
    : message.content.map((part) => (part.type === "text" ? part.text : "")).join("")

/**
 * The images of a message.
 *
 * @since 0.1.0
 * @category accessors
 */
export const images = (message: Message): ReadonlyArray<ImagePart> =>
  typeof message.content === "string" ? [] : message.content.filter((part): part is ImagePart => part.type === "image")

/**
 * @since 0.1.0
 * @category constructors
 */
export const user = (content: Content): UserMessage => ({ role: "user", content })

/**
 * @since 0.1.0
 * @category constructors
 */
export const system = (content: string): SystemMessage => ({ role: "system", content })

/**
 * @since 0.1.0
 * @category constructors
 */
export const assistant = (content: string): AssistantMessage => ({ role: "assistant", content })
