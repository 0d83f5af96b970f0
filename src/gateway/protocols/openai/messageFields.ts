/** What messages of OpenAI's chat completions may hold. */
import * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import { reject } from "../../http/errorResponse.js"
import * as CommonFields from "../../pipeline/commonFields.js"

// =============================================================================
// Content
// =============================================================================

/** How closely a model looks at an image. */
export const detail = Body.oneOf(["auto", "low", "high"])

/** An address or a data URL, as every client has it in an object, and some have it alone. */
export const imageUrl = Body.struct({ url: Body.required(Body.text({ doc: "An address, or a data URL." })), detail })

const thinkingText = Body.custom(
  { description: "A text, or a list of parts with one; anything else is no text." },
  (fields, name) => fields[name] ?? undefined
)
const thinking = Body.struct({ thinking: thinkingText, text: thinkingText })
const text = Body.struct({ text: Body.required(Body.text()), annotations: Body.unread })

/** The parts of a content; a text may stand alone among them. */
export const parts = Body.variants("type", {
  text,
  input_text: text,
  output_text: text,
  refusal: Body.struct({ refusal: Body.required(Body.text()) }),
  image_url: Body.struct({
    image_url: Body.needed(
      Body.custom(
        () => Body.anyOf({ type: "string" }, imageUrl.schema()),
        (fields, name, at): BodyFields.Fields => {
          const value = fields[name]
          const object = typeof value === "string" ? { url: value } : BodyFields.isObject(value) ? value : {}
          return typeof object["url"] === "string" ? object : reject(`${at}.url`, "must be a string")
        }
      )
    )
  }),
  thinking,
  reasoning: thinking
})

const content = Body.nullable(Body.content({ schema: () => Body.anyOf({ type: "string" }, parts.schema()) }, "parts"))

// =============================================================================
// Tool calls
// =============================================================================

/** The function of a call, under its older name without an id too. */
export const called = Body.struct({ name: Body.required(Body.text()), arguments: CommonFields.toolArguments })

/** A call of a tool. */
export const call = Body.struct({
  id: Body.text(),
  type: Body.custom({ const: "function" }, (fields, name, at) => {
    const value = fields[name]
    if (value !== undefined && value !== null && value !== "function") reject(at, "must be function")
  }),
  index: Body.unread,
  function: Body.needed(Body.object({}, called))
})

// =============================================================================
// Messages
// =============================================================================

const name = Body.text()
const instructions = Body.struct({ content, name })
const result = Body.struct({ content, name, tool_call_id: Body.text() })

/** The messages of a conversation, by their roles. */
export const messages = Body.variants("role", {
  system: instructions,
  developer: instructions,
  user: Body.struct({ content, name }),
  assistant: Body.struct({
    content,
    name,
    tool_calls: Body.list(call),
    function_call: Body.object({ doc: "The older form of one of tool_calls." }, called),
    refusal: Body.nullable(Body.text()),
    reasoning_content: Body.text({ doc: "What the model thought before." }),
    reasoning: Body.text({ doc: "The same as reasoning_content." }),
    audio: Body.leftOut
  }),
  tool: result,
  function: result
})

/** The role of a message. */
export const role = Body.oneOf(messages.kinds)
