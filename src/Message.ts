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
export const TextPart = Schema.Struct({
  /** Which part this is. */
  type: Schema.Literal("text"),
  /** The text. */
  text: Schema.String
})
/**
 * @since 0.1.0
 * @category models
 */
export type TextPart = typeof TextPart.Type

const Detail = Schema.Literal("auto", "low", "high")

/**
 * An image: base64 in `data` (with its `mediaType`, such as `image/png`), or, for servers that speak the OpenAI
 * API or Anthropic's, an `http(s)` address in `url`. Ollama takes only `data`.
 *
 * `detail` is the image resolution for OpenAI-compatible servers; others ignore it.
 *
 * @since 0.1.0
 * @category models
 */
export const ImagePart = Schema.Union(
  Schema.Struct({
    /** Which part this is. */
    type: Schema.Literal("image"),
    /** The image in base64. */
    data: Schema.NonEmptyString,
    /** What `data` is, such as `image/png`. */
    mediaType: Schema.NonEmptyString,
    /** The resolution that OpenAI-compatible servers look at it with; others ignore it. */
    detail: Schema.optional(Detail)
  }),
  Schema.Struct({
    /** Which part this is. */
    type: Schema.Literal("image"),
    /** An `http(s)` address, only for servers that speak the OpenAI API or Anthropic's. */
    url: Schema.NonEmptyString,
    /** The resolution that OpenAI-compatible servers look at it with; others ignore it. */
    detail: Schema.optional(Detail)
  })
)
/**
 * @since 0.1.0
 * @category models
 */
export type ImagePart = typeof ImagePart.Type

/**
 * What a user says: a text, or parts of text and images.
 *
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
  /** The id of the call; the tool's result names it. */
  id: Schema.String,
  /** The tool that is called. */
  name: Schema.String,
  /** The parsed arguments; empty where they are not a JSON object. */
  arguments: Schema.Record({ key: Schema.String, value: Schema.Unknown }),
  /** The model's text where it is not a JSON object. */
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
  /** Who speaks. */
  role: Schema.Literal("system", "developer"),
  /** The instructions. */
  content: Schema.String,
  /** The participant's name, only for servers that speak the OpenAI API. */
  name: Name
})
/**
 * @since 0.1.0
 * @category models
 */
export type SystemMessage = typeof SystemMessage.Type

/**
 * What the user says.
 *
 * @since 0.1.0
 * @category models
 */
export const UserMessage = Schema.Struct({
  /** Who speaks. */
  role: Schema.Literal("user"),
  /** A text, or parts of text and images. */
  content: Content,
  /** The participant's name, only for servers that speak the OpenAI API. */
  name: Name
})
/**
 * @since 0.1.0
 * @category models
 */
export type UserMessage = typeof UserMessage.Type

/**
 * What the model said.
 *
 * @since 0.1.0
 * @category models
 */
export const AssistantMessage = Schema.Struct({
  /** Who speaks. */
  role: Schema.Literal("assistant"),
  /** The text; empty if it only called tools. */
  content: Schema.String,
  /** The participant's name, only for servers that speak the OpenAI API. */
  name: Name,
  /** The reasoning. */
  thinking: Schema.optional(Schema.String),
  /** The tools that it called. */
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
  /** Who speaks. */
  role: Schema.Literal("tool"),
  /** The result as text. */
  content: Schema.String,
  /** The `id` of the call. */
  toolCallId: Schema.String,
  /** The tool that was called. */
  toolName: Schema.String
})
/**
 * @since 0.1.0
 * @category models
 */
export type ToolMessage = typeof ToolMessage.Type

/**
 * A message of a conversation.
 *
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
 * A message of the user.
 *
 * @since 0.1.0
 * @category constructors
 */
export const user = (content: Content): UserMessage => ({ role: "user", content })

/**
 * System instructions.
 *
 * @since 0.1.0
 * @category constructors
 */
export const system = (content: string): SystemMessage => ({ role: "system", content })

/**
 * A message of the model.
 *
 * @since 0.1.0
 * @category constructors
 */
export const assistant = (content: string): AssistantMessage => ({ role: "assistant", content })
