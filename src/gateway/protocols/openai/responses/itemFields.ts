/** What items of the Responses API may hold. */
import * as Body from "../../../http/bodyDeclaration.js"
import * as CommonFields from "../../../pipeline/commonFields.js"
import { detail } from "../messageFields.js"
import { anyTool } from "./tools.js"

/** The roles of messages. */
export const roles = ["system", "developer", "user", "assistant"] as const

const text = Body.struct({ text: Body.required(Body.text()) })

/** The parts of a message, and of a tool's result. */
export const parts = Body.variants("type", {
  input_text: text,
  output_text: text,
  summary_text: text,
  text,
  refusal: Body.struct({ refusal: Body.required(Body.text()) }),
  input_image: Body.struct({
    image_url: Body.required(Body.text({ doc: "An address, or a data URL." })),
    detail
  })
})

const content = Body.nullable(Body.content(parts, "parts"))

/** What clients repeat of items that they were given. */
const repeated = { id: Body.unread, status: Body.unread }
const called = { ...repeated, call_id: Body.required(Body.text()), namespace: Body.text() }
const output = Body.struct({ ...repeated, call_id: Body.required(Body.text()), output: content })
const moreTools = Body.struct({ ...repeated, call_id: Body.unread, execution: Body.unread, tools: Body.list(anyTool) })
const summary = Body.struct({
  id: Body.unread,
  encrypted_content: Body.custom({ type: "string" }, (fields, name) => fields[name])
})

/** The items of an input; those that are not part of a prompt are left out. */
export const items = Body.variants(
  "type",
  {
    message: Body.struct({
      ...repeated,
      role: Body.needed(Body.oneOf(roles)),
      content,
      phase: Body.unread
    }),
    function_call: Body.struct({ ...called, name: Body.required(Body.text()), arguments: CommonFields.toolArguments }),
    custom_tool_call: Body.struct({ ...called, name: Body.required(Body.text()), input: Body.text() }),
    local_shell_call: Body.struct({ ...called, action: Body.json() }),
    function_call_output: output,
    custom_tool_call_output: output,
    local_shell_call_output: output,
    additional_tools: moreTools,
    tool_search_output: moreTools,
    reasoning: Body.struct({
      ...repeated,
      summary: Body.unread,
      content: Body.unread,
      encrypted_content: Body.unread
    }),
    compaction: summary,
    compaction_summary: summary,
    item_reference: Body.struct({ id: Body.required(Body.text({ doc: "An item of a stored response." })) })
  },
  { otherwise: "message", others: { refused: ["compaction_trigger"] } }
)

/** Clients may omit the type of a reference. */
const bareReference = {
  type: "object",
  required: ["id"],
  properties: { id: { type: "string" } },
  not: Body.anyOf({ required: ["type"] }, { required: ["role"] })
}

/** The JSON Schema of an item of an input. */
export const itemSchema = (): Body.JsonSchema => Body.anyOf(items.schema(), bareReference)
