/** JSON Schemas of the request bodies: every accepted parameter with its range. */
import { defaults, Routing } from "../../ChatRequest.js"
import * as ExtraParameters from "../../internal/extraParameters.js"
import * as FieldPolicy from "../http/fieldPolicy.js"

const number = (minimum?: number, maximum?: number) => ({
  type: "number",
  ...(minimum === undefined ? {} : { minimum }),
  ...(maximum === undefined ? {} : { maximum })
})
const above0 = { type: "number", exclusiveMinimum: 0 }
const whole = (minimum?: number, maximum?: number) => ({ ...number(minimum, maximum), type: "integer" })
const text = { type: "string" }
const flag = { type: "boolean" }
const object = { type: "object" }
const list = (items: object) => ({ type: "array", items })
const either = (...anyOf: ReadonlyArray<object>) => ({ anyOf })
const described = (schema: object, description: string) => ({ ...schema, description })
/** Other fields are ignored, and listed in `X-Aicortex-Ignored`. */
const open = (required: ReadonlyArray<string>, properties: { readonly [name: string]: object }) => ({
  type: "object",
  required,
  properties
})
const closed = (required: ReadonlyArray<string>, properties: { readonly [name: string]: object }) => ({
  type: "object",
  required,
  properties,
  additionalProperties: false
})

// =============================================================================
// Shared by several endpoints
// =============================================================================

const model = described(text, "A model, an alias, provider:model, or auto. Default: the default model.")
const keep_alive = described(
  either({ type: "number" }, text),
  "For how long Ollama keeps the model: seconds, or a duration such as 5m."
)
const options = described(object, "Ollama's own options, for Ollama's servers.")

/** Extensions of this gateway. */
const ours = {
  session: described(text, "A conversation of /v1/sessions to continue."),
  routing: described({ enum: Routing.literals }, "Which server is tried first."),
  cache: described(
    either(flag, { type: "object", properties: { ttl: described(number(1), "In milliseconds.") } }),
    "Whether a cached answer may be returned, and this one is cached."
  )
}

const noEffect = (schema: object) => described(schema, "Accepted for compatibility; has no effect.")
const harmless = Object.fromEntries([...FieldPolicy.harmlessFields].map((name) => [name, noEffect({})]))

const extra = Object.fromEntries(
  Object.keys(ExtraParameters.fields).map((name) => [
    name,
    {
      description:
        "For servers that support it: elsewhere optional tuning parameters are ignored, and listed in a header."
    }
  ])
)

const sampling = {
  model,
  stream: { ...flag, default: false },
  stream_options: described(
    { type: "object", properties: { include_usage: flag, include_obfuscation: noEffect(flag) } },
    "Only where stream is true."
  ),
  temperature: { ...number(0, 2), default: defaults.temperature },
  top_p: { ...number(0, 1), default: defaults.topP },
  stop: either(text, { ...list(text), maxItems: 16 }),
  seed: whole(),
  frequency_penalty: number(-2, 2),
  presence_penalty: number(-2, 2),
  logit_bias: { type: "object", additionalProperties: number(-100, 100), maxProperties: 2048 },
  top_k: whole(0),
  min_p: number(0, 1),
  repeat_penalty: above0,
  repetition_penalty: described(above0, "The same as repeat_penalty."),
  reasoning: {
    type: "object",
    properties: {
      effort: { enum: ["none", "minimal", "low", "medium", "high", "xhigh", "max"] },
      summary: noEffect(text)
    }
  },
  reasoning_effort: { enum: ["none", "minimal", "low", "medium", "high", "xhigh", "max"] },
  think: either(flag, { enum: ["low", "medium", "high", "max"] }),
  enable_thinking: flag,
  thinking: either(flag, {
    type: "object",
    properties: { type: { enum: ["enabled", "disabled", "adaptive", "auto"] } }
  }),
  ...extra,
  chat_template_kwargs: described(
    object,
    "enable_thinking holds on every server, the others where the template has them."
  ),
  keep_alive,
  num_ctx: described(whole(1), "The same as options.num_ctx."),
  options,
  ...ours,
  user: noEffect(text),
  metadata: noEffect(object),
  store: noEffect(flag),
  prompt_cache_key: noEffect(text),
  ...harmless
}

const tools = {
  tools: list(object),
  tool_choice: either({ enum: ["none", "auto", "required"] }, object),
  parallel_tool_calls: { ...flag, default: true }
}
const responseFormat = {
  type: "object",
  required: ["type"],
  properties: {
    type: { enum: ["text", "json_object", "json_schema"] },
    schema: described(object, "With json_object: the JSON Schema of the answer, as llama.cpp has it."),
    json_schema: {
      type: "object",
      required: ["name", "schema"],
      properties: { name: text, description: text, schema: object, strict: flag }
    }
  }
}

const messages = { ...list(object), minItems: 1 }
const prompt = {
  model,
  messages: described(messages, "Of the roles user, assistant and system."),
  system: either(text, list(object)),
  tools: list(
    closed(["name", "input_schema"], {
      type: { const: "custom" },
      name: text,
      description: text,
      input_schema: object,
      strict: flag,
      cache_control: noEffect(object),
      eager_input_streaming: noEffect(flag),
      defer_loading: described(
        flag,
        "Offered once a tool_reference names it; at once where Anthropic's search is to find it."
      ),
      allowed_callers: noEffect(list(text)),
      input_examples: noEffect(list(object))
    })
  ),
  tool_choice: closed(["type"], {
    type: { enum: ["auto", "any", "tool", "none"] },
    name: text,
    disable_parallel_tool_use: flag
  }),
  thinking: closed(["type"], {
    type: { enum: ["enabled", "disabled", "adaptive"] },
    budget_tokens: described(whole(1024), "Where it is enabled. How long a model thinks is bounded by max_tokens."),
    display: { enum: ["summarized", "updates", "full", "omitted"], default: "summarized" }
  }),
  output_config: closed([], { effort: { enum: ["low", "medium", "high", "xhigh", "max"] }, format: object }),
  output_format: described(object, "The older name of output_config.format."),
  context_management: noEffect(object),
  cache_control: noEffect(object),
  ...harmless
}

// =============================================================================
// Each endpoint
// =============================================================================

const ollama = {
  model,
  stream: { ...flag, default: true },
  format: described(either({ const: "json" }, object), "json, or a JSON Schema."),
  options,
  keep_alive,
  think: either(flag, { enum: ["low", "medium", "high", "max"] }),
  logprobs: flag,
  top_logprobs: whole(0, 20),
  truncate: described(
    { ...flag, default: true },
    "Whether Ollama leaves out old messages where the prompt is too long."
  ),
  shift: described({ ...flag, default: true }, "Whether Ollama forgets the beginning where the answer is too long."),
  _debug_render_only: described(flag, "Only the prompt that an Ollama server would give its model."),
  ...ours
}
const named = { model: text, name: described(text, "The older name of model.") }
const server = described(text, "Which server is meant, by its address or as the lists call it; or all.")

/** By the endpoint's path. */
export const bodies: { readonly [path: string]: object } = {
  "/v1/chat/completions": closed(["messages"], {
    messages: { ...list(object), minItems: 1 },
    ...sampling,
    max_tokens: described(whole(1), "The older name of max_completion_tokens."),
    max_completion_tokens: whole(1),
    n: { ...whole(1, 128), default: 1 },
    logprobs: flag,
    top_logprobs: described(whole(0, 20), "Only where logprobs is true."),
    ...tools,
    response_format: responseFormat,
    modalities: list({ const: "text" }),
    guided_json: either(object, text),
    json_schema: either(object, text)
  }),
  "/v1/completions": closed(["prompt"], {
    prompt: described(
      either(text, { ...list(text), minItems: 1, maxItems: 128 }),
      "Goes to the model as it is, without a chat template. At most 128 answers in all."
    ),
    suffix: described(text, "The text after the gap to fill."),
    raw: described({ ...flag, default: true }, "false: the prompt is put into the chat template."),
    ...sampling,
    max_tokens: described({ ...whole(1), default: 16 }, "Without the default where raw is false."),
    n: described({ ...whole(1, 128), default: 1 }, "For each prompt."),
    best_of: described(whole(1, 20), "As many as n."),
    echo: described(flag, "Not together with logprobs."),
    logprobs: whole(0, 20),
    response_format: described(responseFormat, "Only where raw is false."),
    guided_json: described(either(object, text), "Only where raw is false."),
    json_schema: described(either(object, text), "Only where raw is false.")
  }),
  "/v1/responses": closed(["input"], {
    input: either(text, { ...list(object), minItems: 1 }),
    instructions: text,
    ...sampling,
    previous_response_id: described(text, "A stored response to continue."),
    store: described({ ...flag, default: true }, "Whether the response is stored. Never in a session."),
    background: described({ const: false }, "Background responses are not supported."),
    max_output_tokens: whole(1),
    ...tools,
    text: {
      type: "object",
      properties: { format: object, verbosity: { enum: ["low", "medium", "high"] } }
    },
    truncation: noEffect({ enum: ["auto", "disabled"] }),
    include: noEffect(list(text))
  }),
  "/v1/responses/compact": {
    type: "object",
    required: ["model", "input"],
    properties: {
      model,
      input: either(text, { ...list(object), minItems: 1 }),
      instructions: text,
      previous_response_id: text
    }
  },
  "/v1/messages": closed(["messages", "max_tokens"], {
    ...prompt,
    max_tokens: whole(1),
    stream: { ...flag, default: false },
    temperature: { ...number(0, 1), default: defaults.temperature },
    top_p: { ...number(0, 1), default: defaults.topP },
    top_k: whole(0),
    stop_sequences: { ...list(text), maxItems: 16 },
    seed: whole(),
    min_p: number(0, 1),
    repeat_penalty: above0,
    keep_alive,
    num_ctx: described(whole(1), "The same as options.num_ctx."),
    options,
    ...ours,
    metadata: noEffect({ type: "object", properties: { user_id: text } }),
    ...extra
  }),
  "/v1/messages/count_tokens": closed(["messages"], prompt),
  "/v1/embeddings": closed(["model", "input"], {
    model: described(text, "A model that makes embeddings, an alias, or provider:model."),
    input: either(text, {
      ...list(either(text, whole(0), list(whole(0)))),
      minItems: 1
    }),
    encoding_format: { enum: ["float", "base64"], default: "float" },
    dimensions: whole(1),
    user: noEffect(text),
    keep_alive,
    options,
    ...harmless
  }),
  "/api/chat": open([], {
    messages: described(list(object), "None loads the model."),
    tools: list(object),
    tool_choice: described({ enum: ["auto", "none"] }, "Anything else is ignored, and listed."),
    ...ollama
  }),
  "/api/generate": open([], {
    prompt: described(text, "None loads the model."),
    suffix: described(text, "The text after the gap to fill. Not together with raw."),
    raw: described({ ...flag, default: false }, "The prompt goes to the model as it is, without a chat template."),
    system: text,
    template: described(
      text,
      "What the prompt is put into, instead of the model's own template. Ollama's servers only."
    ),
    context: described(list(whole()), "The context of an earlier answer of this gateway, which the prompt continues."),
    images: described(list(text), "In base64."),
    ...ollama
  }),
  "/api/embed": open(["model"], {
    model: text,
    input: either(text, list(text)),
    truncate: flag,
    dimensions: whole(1),
    keep_alive,
    options,
    ...harmless
  }),
  "/api/embeddings": open(["model"], { model: text, prompt: text, keep_alive, options }),
  "/api/show": { type: "object", properties: { ...named, verbose: flag } },
  "/api/pull": { type: "object", properties: { ...named, server, insecure: flag, stream: { ...flag, default: true } } },
  "/api/create": {
    type: "object",
    properties: {
      ...named,
      from: text,
      files: object,
      system: text,
      template: text,
      parameters: object,
      server,
      stream: flag
    }
  },
  "/api/push": { type: "object", properties: { ...named, server, insecure: flag, stream: { ...flag, default: true } } },
  "/api/copy": {
    type: "object",
    required: ["source", "destination"],
    properties: { source: text, destination: text, server }
  },
  "/api/delete": { type: "object", properties: { ...named, server } }
}
