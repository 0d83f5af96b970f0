/**
 * What `POST /v1/responses` is asked.
 *
 * @since 0.1.0
 */
import * as Message from "../../../../Message.js"
import * as Fields from "../../../http/body.js"
import { refuse } from "../../../http/errorResponse.js"
import * as Policy from "../../../http/fieldPolicy.js"
import * as Ask from "../../../pipeline/gatewayRequest.js"
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

/**
 * - `items`: what is said now, of which `request` has the messages
 * - `previous`: the response that is gone on from
 * - `store`: whether the response is to be kept; `undefined` where the request does not say
 * - `tools`: what may be called, and how the client calls it
 * - `echo`: what is told back about the request
 *
 * @since 0.1.0
 * @category models
 */
export interface Response extends Ask.Ask {
  readonly items: ReadonlyArray<Fields.Fields>
  readonly instructions: string | undefined
  readonly previous: string | undefined
  readonly store: boolean | undefined
  readonly tools: Tools
  readonly echo: object
}

const messagesOf = (
  instructions: string | undefined,
  earlier: ReadonlyArray<Fields.Fields>,
  items: ReadonlyArray<Fields.Fields>,
  ignored: Policy.Ignored,
  tools: Tools
): ReadonlyArray<Message.Message> => {
  const conversation = new Items.Conversation(ignored, tools)
  if (instructions !== undefined) conversation.messages.push(Message.system(instructions))
  conversation.add(earlier, "previous_response_id")
  conversation.add(items, "input")
  return conversation.messages
}

/**
 * The same after earlier items. Earlier instructions are not among them: they hold for one response.
 *
 * @since 0.1.0
 * @category constructors
 */
export const after = (asked: Response, earlier: ReadonlyArray<Fields.Fields>): Response => {
  // It has been checked before.
  const lenient = new Policy.Ignored(false)
  const messages = messagesOf(asked.instructions, earlier, asked.items, lenient, asked.tools)
  return { ...asked, request: { ...asked.request, messages, tools: asked.tools.definitions } }
}

/** A format as it was understood. */
const echoed = ({ name, schema, strict, type }: Fields.Fields): object =>
  type === "json_schema"
    ? { type, name, schema, strict: strict ?? null }
    : { type, ...(schema === undefined || schema === null ? {} : { schema }) }

/**
 * @since 0.1.0
 * @category decoding
 */
export const decode = (body: Fields.Fields, ignored: Policy.Ignored): Response => {
  ignored.check(body, known, Policy.refused.responses)
  Parameters.checkAbout(body)
  const stream = Fields.flag(body, "stream") ?? false
  const text = Fields.object(body, "text") ?? {}
  ignored.within(text, textNames, "text")
  const verbosity = Fields.oneOf(text, "verbosity", ["low", "medium", "high"], "text.verbosity")
  const format = Fields.object(text, "format", "text.format")
  const reasoning = Fields.object(body, "reasoning") ?? {}
  const parallel = Fields.flag(body, "parallel_tool_calls") ?? true
  const instructions = Fields.text(body, "instructions") || undefined
  if (Fields.flag(body, "background") === true) {
    refuse("background", "must be false: a response is only made for who waits for it", "unsupported_parameter")
  }
  if (Fields.oneOf(body, "truncation", ["auto", "disabled"]) === "auto") ignored.add("truncation")
  for (const one of Fields.list(body, "include") ?? []) ignored.add(`include.${String(one).slice(0, 60)}`)
  const asked = Parameters.sampling(body, ignored)
  const sampling = verbosity === undefined ? asked : { ...asked, extra: { ...asked.extra, verbosity } }
  const maxTokens = Fields.whole(body, "max_output_tokens", 1)
  const tools = new Tools(ignored)
  tools.add(Fields.list(body, "tools") ?? [], "tools")
  const items = Items.given(body)
  const messages = messagesOf(instructions, [], items, ignored, tools)
  const toolChoice = tools.choice(body)
  const previous = Fields.text(body, "previous_response_id")
  const store = Fields.flag(body, "store")
  const model = Ask.model(body)
  return {
    items,
    instructions,
    previous,
    store,
    model,
    stream,
    n: 1,
    oneTool: !parallel,
    ...Ask.extras(body),
    tools,
    request: Ask.request(model, messages, sampling, {
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
