/**
 * Classifies errors by their text, whatever status or stream they came in: servers report the same few faults in
 * different ways, and many report a fault of the request as HTTP 500.
 */
import type { FailureReason } from "../Errors.js"

/** The reasons that can be recognised by text alone. */
type KnownReason = Extract<
  FailureReason,
  | "context-length"
  | "invalid-request"
  | "model-failed"
  | "loading"
  | "bad-output"
  | "busy"
  | "rate-limited"
  | "unauthorized"
  | "model-not-found"
>

/** What stands for a status in an error that came inside a successful response: the types of Anthropic's API. */
const byType: ReadonlyArray<readonly [RegExp, KnownReason]> = [
  [/\boverloaded_error\b/, "busy"],
  [/\brate_limit_error\b/, "rate-limited"],
  [/\b(authentication|permission|billing)_error\b/, "unauthorized"],
  [/\bnot_found_error\b/, "model-not-found"],
  [/\brequest_too_large\b/, "invalid-request"]
]

const any = (...patterns: ReadonlyArray<string>): RegExp => new RegExp(patterns.join("|"), "i")

/** The prompt exceeds the model's context: Ollama, llama.cpp, vLLM, LM Studio, OpenAI, SGLang, TGI, Anthropic, … */
const contextLength = any(
  String.raw`context[_ ]length[_ ]exceeded`,
  String.raw`exceed_context_size`,
  String.raw`\bcontext (length|size|window|limit)\b.{0,60}\b(exceed|overflow|too (long|large))`,
  String.raw`\b(exceed|overflow|longer than|larger than|greater than|more than|beyond|too (long|large) for|fit (in|within|into))\w*\b.{0,80}\bcontext\b`,
  String.raw`maximum context length|max(imum)?[_ ]model[_ ](len|length)|maximum model length|max_total_tokens`,
  String.raw`\bprompt (is )?too long\b|\bprompt contains .{0,40}tokens|\binput (is )?too long\b|\btoo many (input )?tokens\b`,
  String.raw`\binput (length|tokens)\b.{0,60}\bexceed`,
  String.raw`\binputs?\W{1,3}(must have less than|tokens \+ max_new_tokens must be)`,
  String.raw`\binput is too large to process|\btrying to keep the first \d+ tokens when context overflows`
)

/** The model runner crashed. */
const crashed = any(
  String.raw`\brunner process (has terminated|no longer running)`,
  String.raw`\bmodel runner has unexpectedly stopped`,
  String.raw`\bmodel has crashed\b|\bmodel process (has )?(crashed|exited)`,
  String.raw`\benginedeaderror\b|\benginecore encountered|\bbackground loop has errored`
)

/** The model cannot be run on that server: no memory, an unknown architecture, a broken file. */
const cannotRun = any(
  String.raw`\bout of memory\b|\boutofmemory|\bcudamalloc failed|\binsufficient (system )?(memory|vram|resources)`,
  String.raw`\brequires more (system )?memory|\bnot enough (gpu |system |video )?memory|\bunable to allocate|\bfailed to allocate`,
  String.raw`\b(failed|unable|could not|cannot|error) (to )?load(ing)? (the )?model`,
  String.raw`\bmodel (could not|cannot|can't|failed to) (be )?load`,
  String.raw`\bun(known|supported) (model )?architecture|\barchitecture .{0,60}not supported`,
  String.raw`\btimed out waiting for (llama )?runner`,
  String.raw`\binvalid (model )?file magic|\btensor .{0,80}not found`
)

/** The server has not enough memory for the model, whatever the request is. */
const tooLittleMemory = any(
  String.raw`\brequires more (gpu |system |video )?(memory|vram)`,
  String.raw`\b(not enough|insufficient) (gpu |system |video )?(memory|vram)\b`
)

/** Whether an error says that the server has not enough memory for the model, whatever the request is. */
export const lacksMemory = (text: string): boolean => tooLittleMemory.test(text)

/** The model is being loaded: llama-server and similar answer 503 meanwhile. */
const loading = any(
  String.raw`\bloading model\b|\bmodel (is )?(still )?(being )?load(ing|ed)\b|\bstill loading\b|\bmodel is not ready\b`,
  String.raw`\bwarming up\b|\bserver is (still )?starting\b`
)

/** The server could not parse the model's output: another try may succeed. */
const badOutput = any(
  String.raw`\berror parsing tool call\b|\bfailed to parse (the )?(tool call|model output|output)`,
  String.raw`\bfailed to parse input at pos\b|\bunexpected tokens remaining in message`
)

/** The request itself: its template, tools, schema, images or options. */
const request = any(
  String.raw`^option "|^invalid format`,
  String.raw`\bjinja\b|\bchat[_ ]template\b|\braise_exception\b|\btemplate: :\d+|\berror rendering (the )?(prompt|template)`,
  String.raw`\broles? must alternate|\balternate user/assistant|\b(system )?roles? (is |are )?not supported|\bonly user.{0,40}roles (are|is) supported|\b(unknown|invalid|unexpected|unsupported) (message )?role\b`,
  String.raw`\bvalue looks like (an )?object|\bvalue is not callable\b`,
  String.raw`\bdoes not support (tools|tool|thinking|chat|generate|embeddings|images|vision|insert|completion)`,
  String.raw`\b(failed|unable|error) (to )?pars(e|ing) (the )?(grammar|tools?\b|tool (arguments|definitions?|schema)|json schema|messages|arguments)`,
  String.raw`\b(invalid|unsupported|unrecognized|malformed|bad) (json[_ ]?schema|schema|grammar|tool|tools|tool_call|function arguments|response_format|image|base64|message|messages|argument|arguments|parameter|option|regex|logit_bias)\b`,
  String.raw`\bcannot unmarshal\b|\bjson: (invalid|unexpected)|\bjson\.exception\.|\bjsondecodeerror\b|\bexpecting (value|property name|',' delimiter)`,
  String.raw`\bimage (input )?(is )?not supported|\bfailed to (process|decode|load) (the )?image|\bmultimodal .{0,30}not supported`
)

/**
 * The reason for an error text, or `undefined` if it is not recognised. `codes`: the `code` and `type` beside the text,
 * if any. `status`: of the response; `undefined` if the error came inside a successful one.
 */
export const classifyByText = (text: string, codes: string, status: number | undefined): KnownReason | undefined => {
  if (contextLength.test(text) || contextLength.test(codes)) return "context-length"
  if (status === undefined && codes !== "") {
    for (const [type, reason] of byType) if (type.test(codes)) return reason
  }
  if (status === 503 && loading.test(text)) return "loading"
  if (badOutput.test(text)) return "bad-output"
  if (crashed.test(text) || cannotRun.test(text)) return "model-failed"
  if (/\binvalid_request_error\b/.test(codes) || request.test(text)) return "invalid-request"
  return undefined
}

/** Whether a model failed while working, and not while loading: then the request may have caused it. */
export const failedMidway = (text: string): boolean => crashed.test(text) && !cannotRun.test(text)

/** The codes beside an error text: `{"error": {"code": …, "type": …}}`, or the same one level up. */
export const codesOf = (body: unknown): string => {
  if (typeof body !== "object" || body === null) return ""
  const { code, error, type } = body as { readonly [key: string]: unknown }
  const own = [code, type].filter((value) => typeof value === "string").join(" ")
  return typeof error === "object" && error !== null ? `${own} ${codesOf(error)}` : own
}

/** Options by the names that servers have for them, where a name means the same at all of them. */
const optionNames: { readonly [name: string]: string } = {
  frequency_penalty: "frequencyPenalty",
  input: "input",
  dimensions: "dimensions",
  logit_bias: "logitBias",
  logprobs: "logprobs",
  max_completion_tokens: "maxTokens",
  max_output_tokens: "maxTokens",
  max_tokens: "maxTokens",
  messages: "messages",
  min_p: "minP",
  model: "model",
  presence_penalty: "presencePenalty",
  prompt: "messages",
  repetition_penalty: "repeatPenalty",
  repeat_penalty: "repeatPenalty",
  response_format: "format",
  seed: "seed",
  stop: "stop",
  stop_sequences: "stop",
  suffix: "suffix",
  temperature: "temperature",
  tool_choice: "toolChoice",
  tools: "tools",
  top_k: "topK",
  top_p: "topP"
}

/** The name at the beginning of a path: `messages[0].content`, `tools.0.name`. */
const optionAt = (path: unknown): string | undefined => {
  const name = typeof path === "string" ? (/^\w+(?=$|[.[])/.exec(path)?.[0] ?? "") : ""
  return Object.hasOwn(optionNames, name) ? optionNames[name] : undefined
}

/** The option that an error names: OpenAI's has it as `param`, Anthropic's at the beginning of its message. */
export const optionOf = (body: unknown): string | undefined => {
  if (typeof body !== "object" || body === null) return undefined
  const { error, message, param, type } = body as { readonly [key: string]: unknown }
  if (typeof error === "object" && error !== null) return optionOf(error)
  if (typeof param === "string") return optionAt(param)
  if (type !== "invalid_request_error" || typeof message !== "string") return undefined
  return optionAt(/^[\w.]+(?=: )/.exec(message)?.[0])
}
