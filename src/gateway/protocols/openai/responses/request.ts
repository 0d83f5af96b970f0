/** Decodes the body of `POST /v1/responses`. */
import * as Message from "../../../../Message.js"
import * as BodyFields from "../../../http/body.js"
import { reject } from "../../../http/errorResponse.js"
import * as FieldPolicy from "../../../http/fieldPolicy.js"
import * as GatewayRequest from "../../../pipeline/gatewayRequest.js"
import * as Messages from "../messages.js"
import * as Parameters from "../parameters.js"
import * as Items from "./items.js"
import { Tools } from "./tools.js"

const known: ReadonlySet<string> = new Set([
  ...Parameters.commonNames,
  "input",
  "previous_response_id",
  "background",
  "instructions",
  "max_output_tokens",
  "tools",
  "tool_choice",
  "parallel_tool_calls",
  "text",
  "truncation",
  "include"
])

const textNames: ReadonlySet<string> = new Set(["format", "verbosity"])

export interface ResponseRequest extends GatewayRequest.GatewayRequest {
  /** The new input, of which `request` has the messages. */
  readonly items: ReadonlyArray<BodyFields.Fields>
  readonly instructions: string | undefined
  /** The response to continue. */
  readonly previous: string | undefined
  /** Whether to store the response; `undefined` if the request does not say. */
  readonly store: boolean | undefined
  /** The available tools, and how the client calls them. */
  readonly tools: Tools
  /** What the response repeats of the request. */
  readonly echo: object
}

const messagesOf = (
  instructions: string | undefined,
  earlier: ReadonlyArray<BodyFields.Fields>,
  items: ReadonlyArray<BodyFields.Fields>,
  ignored: FieldPolicy.IgnoredFields,
  tools: Tools
): ReadonlyArray<Message.Message> => {
  const conversation = new Items.Conversation(ignored, tools)
  if (instructions !== undefined) conversation.messages.push(Message.system(instructions))
  conversation.add(earlier, "previous_response_id")
  conversation.add(items, "input")
  return conversation.messages
}

/** The same after earlier items. Earlier instructions are not included: they apply to one response. */
export const after = (asked: ResponseRequest, earlier: ReadonlyArray<BodyFields.Fields>): ResponseRequest => {
  // Checked before.
  const lenient = new FieldPolicy.IgnoredFields(false)
  const messages = messagesOf(asked.instructions, earlier, asked.items, lenient, asked.tools)
  return { ...asked, request: { ...asked.request, messages, tools: asked.tools.definitions } }
}

/** A format as it was understood. */
const echoed = ({ name, schema, strict, type }: BodyFields.Fields): object =>
  type === "json_schema"
    ? { type, name, schema, strict: strict ?? null }
    : { type, ...(schema === undefined || schema === null ? {} : { schema }) }

export const decode = (body: BodyFields.Fields, ignored: FieldPolicy.IgnoredFields): ResponseRequest => {
  ignored.check(body, known, FieldPolicy.rejectedFields.responses)
  Parameters.checkAbout(body)
  const stream = BodyFields.flag(body, "stream") ?? false
  const text = BodyFields.object(body, "text") ?? {}
  ignored.checkObject(text, textNames, "text")
  const verbosity = BodyFields.oneOf(text, "verbosity", ["low", "medium", "high"], "text.verbosity")
  const format = BodyFields.object(text, "format", "text.format")
  const reasoning = BodyFields.object(body, "reasoning") ?? {}
  const parallel = BodyFields.flag(body, "parallel_tool_calls") ?? true
  const instructions = BodyFields.text(body, "instructions") || undefined
  if (BodyFields.flag(body, "background") === true) {
    reject("background", "must be false: background responses are not supported", "unsupported_parameter")
  }
  if (BodyFields.oneOf(body, "truncation", ["auto", "disabled"]) === "auto") ignored.add("truncation")
  for (const one of BodyFields.list(body, "include") ?? []) ignored.add(`include.${String(one).slice(0, 60)}`)
  const asked = Parameters.sampling(body, ignored)
  const sampling = verbosity === undefined ? asked : { ...asked, extra: { ...asked.extra, verbosity } }
  const maxTokens = BodyFields.whole(body, "max_output_tokens", 1)
  const tools = new Tools(ignored)
  tools.add(BodyFields.list(body, "tools") ?? [], "tools")
  const items = Items.given(body)
  const messages = messagesOf(instructions, [], items, ignored, tools)
  const toolChoice = tools.choice(body)
  const previous = BodyFields.text(body, "previous_response_id")
  const store = BodyFields.flag(body, "store")
  const model = GatewayRequest.model(body)
  return {
    items,
    instructions,
    previous,
    store,
    model,
    stream,
    n: 1,
    oneTool: !parallel,
    ...GatewayRequest.extras(body),
    tools,
    request: GatewayRequest.request(model, messages, sampling, {
      maxTokens,
      tools: tools.definitions,
      toolChoice,
      format: Messages.format(format, "text.format", false, ignored),
      logprobs: undefined
    }),
    echo: {
      instructions: body["instructions"] ?? null,
      max_output_tokens: maxTokens ?? null,
      metadata: body["metadata"] ?? {},
      parallel_tool_calls: parallel,
      previous_response_id: previous ?? null,
      reasoning: { effort: reasoning["effort"] ?? null, summary: null },
      store: false,
      text: { format: format === undefined ? { type: "text" } : echoed(format) },
      tool_choice:
        toolChoice === undefined || typeof toolChoice === "string"
          ? (toolChoice ?? "auto")
          : tools.told({ type: "function", name: toolChoice.name }),
      tools: tools.definitions.map((tool) =>
        tools.told({ type: "function", parameters: null, ...tool, strict: false })
      ),
      truncation: "disabled",
      user: body["user"] ?? null
    }
  }
}
