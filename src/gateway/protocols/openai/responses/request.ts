/** Decodes the body of `POST /v1/responses`. */
import * as Message from "../../../../Message.js"
import * as BodyFields from "../../../http/body.js"
import * as Body from "../../../http/bodyDeclaration.js"
import { reject } from "../../../http/errorResponse.js"
import * as FieldPolicy from "../../../http/fieldPolicy.js"
import * as CommonFields from "../../../pipeline/commonFields.js"
import * as GatewayRequest from "../../../pipeline/gatewayRequest.js"
import * as OptionNames from "../../../pipeline/optionNames.js"
import * as Format from "../format.js"
import * as Parameters from "../parameters.js"
import * as ChatTools from "../tools.js"
import * as Items from "./items.js"
import { anyTool, Tools } from "./tools.js"

const verbosities = ["low", "medium", "high"] as const
const textual = Body.struct(
  { format: Body.object({}, Format.flatFormat), verbosity: Body.oneOf(verbosities) },
  { path: "text" }
)

/** The body. */
export const body = Body.struct(
  {
    input: Items.field,
    instructions: Body.text(),
    ...Parameters.fields,
    previous_response_id: Body.text({ doc: "A stored response to continue." }),
    store: Body.flag({ default: true, doc: "Whether the response is stored. Never in a session." }),
    background: Body.custom(
      { const: false, description: "Background responses are not supported." },
      (given, name, at) => {
        if (BodyFields.flag(given, name, at) !== true) return
        reject(at, "must be false: background responses are not supported", "unsupported_parameter")
      }
    ),
    max_output_tokens: Body.whole(1),
    tools: Body.list(anyTool),
    ...ChatTools.calling,
    text: Body.object({}, textual),
    truncation: Body.withoutEffect(Body.oneOf(["auto", "disabled"])),
    include: Body.withoutEffect(
      Body.custom({ type: "array", items: { type: "string" } }, (given, name, at) =>
        BodyFields.list(given, name, at)?.map((one) =>
          typeof one === "string" ? one : reject(at, "must be an array of strings")
        )
      )
    )
  },
  {
    refused: {
      conversation: "continue a response with previous_response_id, or use session",
      prompt: "no prompts are stored",
      messages: "use input",
      max_tokens: "use max_output_tokens",
      max_completion_tokens: "use max_output_tokens",
      response_format: "use text.format",
      n: "one answer is given",
      max_tool_calls: "tools are called by the client",
      top_logprobs: "it is not known for every server"
    }
  }
)

/** The body of `/v1/responses/compact`, which takes all of the fields, too. */
export const compactBody = Body.struct(
  {
    model: CommonFields.model,
    input: Items.field,
    instructions: Body.text(),
    previous_response_id: Body.text({ doc: "A stored response to continue." })
  },
  { open: true }
)

const { read } = body

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
export const after = (request: ResponseRequest, earlier: ReadonlyArray<BodyFields.Fields>): ResponseRequest => {
  // Checked before.
  const lenient = new FieldPolicy.IgnoredFields(false)
  const messages = messagesOf(request.instructions, earlier, request.items, lenient, request.tools)
  return { ...request, request: { ...request.request, messages, tools: request.tools.definitions } }
}

/** A format as it was understood. */
const echoed = ({ name, schema, strict, type }: BodyFields.Fields): object =>
  type === "json_schema"
    ? { type, name, schema, strict: strict ?? null }
    : { type, ...(schema === undefined || schema === null ? {} : { schema }) }

export const decode = (given: BodyFields.Fields, ignored: FieldPolicy.IgnoredFields): ResponseRequest => {
  ignored.check(given, body)
  Parameters.checkAbout(given)
  const stream = read.stream(given) ?? false
  // Its usage is always part of it.
  Parameters.streamOptionsOf(given, ignored)
  const text = read.text(given) ?? {}
  ignored.checkObject(text, textual.names, "text")
  const verbosity = textual.read.verbosity(text)
  const format = textual.read.format(text)
  const reasoning = read.reasoning(given) ?? {}
  const parallel = read.parallel_tool_calls(given) ?? true
  const instructions = read.instructions(given) || undefined
  read.background(given)
  if (read.truncation(given) === "auto") ignored.add("truncation")
  for (const one of read.include(given) ?? []) ignored.add(`include.${one.slice(0, 60)}`)
  const samplingParameters = Parameters.sampling(given, ignored)
  const sampling =
    verbosity === undefined
      ? samplingParameters
      : { ...samplingParameters, extra: { ...samplingParameters.extra, verbosity } }
  const maxTokens = read.max_output_tokens(given)
  const tools = new Tools(ignored)
  tools.add(read.tools(given) ?? [], "tools")
  const items = read.input(given)
  const messages = messagesOf(instructions, [], items, ignored, tools)
  const toolChoice = tools.choice(given)
  const previous = read.previous_response_id(given)
  const store = read.store(given)
  const model = read.model(given)
  return {
    items,
    instructions,
    previous,
    store,
    model,
    stream,
    n: 1,
    oneTool: !parallel,
    names: OptionNames.responses,
    ...CommonFields.extras(given),
    tools,
    request: GatewayRequest.request(model, messages, sampling, {
      maxTokens,
      tools: tools.definitions,
      toolChoice,
      format: Format.format(format, "text.format", false, ignored),
      logprobs: undefined
    }),
    echo: {
      instructions: given["instructions"] ?? null,
      max_output_tokens: maxTokens ?? null,
      metadata: given["metadata"] ?? {},
      parallel_tool_calls: parallel,
      previous_response_id: previous ?? null,
      reasoning: { effort: reasoning["effort"] ?? null, summary: null },
      store: false,
      text: { format: format === undefined ? { type: "text" } : echoed(format) },
      tool_choice:
        toolChoice === undefined || typeof toolChoice === "string"
          ? (toolChoice ?? "auto")
          : tools.forClient({ type: "function", name: toolChoice.name }),
      tools: tools.definitions.map((tool) =>
        tools.forClient({ type: "function", parameters: null, ...tool, strict: false })
      ),
      truncation: "disabled",
      user: given["user"] ?? null
    }
  }
}
