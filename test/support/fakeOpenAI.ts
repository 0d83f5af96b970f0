import { type Dialect, type Exchange, type FakeOptions, type FakeServer, head, sleep, startServer } from "./harness.js"
import { findModel, modelsOf } from "./models.js"
import { goJson } from "./ollamaChecks.js"
import { checkOpenAIBody, checkTextBody, type Flavour, type Problem } from "./openAIChecks.js"
import { makeTextWriter } from "./openAITextWriter.js"
import { errorBody, type FakeOpenAIOptions, makeWriter, serverError } from "./openAIWriter.js"
import { loadModel, sendBody, sendStream } from "./output.js"
import { countPrompt, embedding, type Json, script, trailingAssistant } from "./script.js"

export type { Flavour } from "./openAIChecks.js"
export type { FakeOpenAIOptions } from "./openAIWriter.js"

/** Starts a fake server of the OpenAI API. It has the model `gpt-4o-mini` unless told otherwise. */
export const startFakeOpenAI = (options: FakeOpenAIOptions = {}): Promise<FakeServer<FakeOpenAIOptions>> =>
  startServer(openAI, { models: ["gpt-4o-mini"], ...options })

type X = Exchange<FakeOptions>

/** Whether a model answers there. */
export const isCompletion = (path: string): boolean => path === "/v1/chat/completions" || path === "/v1/completions"

const flavourOf = (options: FakeOpenAIOptions): Flavour => options.flavour ?? "openai"

const openAI: Dialect<FakeOpenAIOptions> = {
  protocol: "openai",
  kindOf: (_, path) => {
    if (isCompletion(path)) return "chat"
    if (path === "/v1/models") return "tags"
    return path === "/" || path === "/health" || path.startsWith("/v1/models/") ? "discovery" : "other"
  },
  fail: (x, status, headers) => openAIError(x, flavourOf(x.options), status, failures[status] ?? serverError, headers),
  modelNotFound: (x) => problem(x, flavourOf(x.options), noModel(flavourOf(x.options), x.record.body?.model)),
  handle: (x) => handleOpenAI(x, x.options)
}

const failures: Readonly<Record<number, string>> = {
  400: "We could not parse the JSON body of your request.",
  401: "Incorrect API key provided.",
  403: "Country, region, or territory not supported",
  404: "Not found",
  429: "Rate limit reached for requests",
  503: "The engine is currently overloaded, please try again later"
}

const jsonTypes: Readonly<Record<Flavour, string>> = {
  openai: "application/json",
  llamacpp: "application/json; charset=utf-8",
  vllm: "application/json",
  ollama: "application/json"
}

function problem(x: X, flavour: Flavour, what: Problem, headers: Readonly<Record<string, string>> = {}) {
  head(x, what.status, { "content-type": jsonTypes[flavour], ...headers })
  x.res.end(JSON.stringify(errorBody(flavour, what)))
}

/** Answers with an error as a flavour writes it. */
export const openAIError = (
  x: X,
  flavour: Flavour,
  status: number,
  message: string,
  headers?: Readonly<Record<string, string>>
): void => problem(x, flavour, { status, message }, headers)

const noModel = (flavour: Flavour, model: unknown): Problem => {
  const status = 404
  if (flavour === "ollama") return { status, message: `model '${model ?? ""}' not found` }
  if (flavour === "vllm") return { status, message: `The model \`${model}\` does not exist.`, param: "model" }
  const message = `The model \`${model}\` does not exist or you do not have access to it.`
  return { status, message, type: "invalid_request_error", code: "model_not_found" }
}

/** Answers one request of the OpenAI API in a flavour. */
export async function handleOpenAI(x: X, options: FakeOpenAIOptions): Promise<void> {
  const flavour = flavourOf(options)
  const { method, path, rawBody, body } = x.record
  // A browser asks first, without a key.
  if (method === "OPTIONS" && x.req.headers.origin !== undefined) {
    head(x, 200, {
      "access-control-allow-methods": "GET, POST",
      "access-control-allow-headers": x.req.headers["access-control-request-headers"] ?? ""
    })
    return void x.res.end()
  }
  if (!authorized(x, options, flavour)) return
  const json = (value: Json) =>
    sendBody(x, 200, jsonTypes[flavour], flavour === "ollama" ? goJson(value) : JSON.stringify(value))
  const get = method === "GET" || method === "HEAD"
  if (path === "/health" && get && flavour !== "openai") {
    return flavour === "llamacpp" ? json({ status: "ok" }) : sendBody(x, 200, "text/plain", "")
  }
  if (path === "/v1/models" && get) return json(modelList(options, flavour))
  if (path.startsWith("/v1/models/") && get && flavour !== "llamacpp") {
    const id = decodeURIComponent(path.slice("/v1/models/".length))
    const found = modelList(options, flavour).data.find((model: Json) =>
      flavour === "ollama" ? findModel({ models: [model.id] }, id) !== undefined : model.id === id
    )
    return found === undefined ? problem(x, flavour, noModel(flavour, id)) : json({ ...found, id })
  }
  const answers = isCompletion(path) && (path === "/v1/chat/completions" || options.completions !== false)
  if ((!answers && path !== "/v1/embeddings") || method !== "POST") return unknownRoute(x, flavour, method, path)
  if (body === undefined) return problem(x, flavour, unparsable(flavour, rawBody))
  if (!answers) return embeddings(x, options, flavour, json)
  return path === "/v1/completions" ? completeText(x, options, flavour, json) : complete(x, options, flavour, json)
}

/** Goes on with a text, or fills it in. Only Ollama puts the text into the model's template, where nothing must follow it. */
async function completeText(x: X, options: FakeOpenAIOptions, flavour: Flavour, json: (value: Json) => Promise<void>) {
  const body = x.record.body
  const refused = checkTextBody(body, flavour, findModel(options, body?.model)?.capabilities ?? [])
  if (refused !== undefined) return problem(x, flavour, refused)
  const model = findOpenAIModel(options, flavour, body.model)
  if (model === undefined) return problem(x, flavour, noModel(flavour, body.model))
  const overflow = contextOverflow(body, model.contextLength, flavour)
  if (overflow !== undefined) return problem(x, flavour, overflow)
  const templated = flavour === "ollama" && !body.suffix
  const prompt: string = Array.isArray(body.prompt) ? body.prompt[0] : body.prompt
  const said = script(options.reply, body, x.n, {
    maxTokens: body.max_tokens ?? (flavour === "openai" || flavour === "vllm" ? 16 : undefined),
    stop: typeof body.stop === "string" ? [body.stop] : (body.stop ?? []),
    after: templated ? undefined : prompt
  })
  const start = performance.now()
  if (!(await loadModel(x, body.model ?? ""))) return
  const writer = makeTextWriter(flavour, model.name, said, performance.now() - start)
  if (body.stream === true) {
    return sendStream(x, streamTypes[flavour], writer.frames(body), {
      error: writer.errorEvent,
      malformed: `data: {"id":"cmpl-1","object":"text_completion","choices":[{"text":"oo\n\n`
    })
  }
  x.record.tokensSent = said.completionTokens
  return json(writer.whole(body))
}

async function complete(x: X, options: FakeOpenAIOptions, flavour: Flavour, json: (value: Json) => Promise<void>) {
  const body = x.record.body
  const refused = checkOpenAIBody(body, flavour)
  if (refused !== undefined) return problem(x, flavour, refused)
  const model = findOpenAIModel(options, flavour, body.model)
  if (model === undefined) return problem(x, flavour, noModel(flavour, body.model))
  const overflow = contextOverflow(body, model.contextLength, flavour)
  if (overflow !== undefined) return problem(x, flavour, overflow)
  const effort = body.reasoning_effort ?? body.reasoning?.effort
  const thinks = effort !== undefined && effort !== "none"
  if (flavour === "ollama" && thinks && !findModel(options, body.model)?.capabilities.includes("thinking")) {
    return problem(x, flavour, { status: 400, message: `"${body.model}" does not support thinking` })
  }
  const maxTokens = flavour === "ollama" ? body.max_tokens : (body.max_completion_tokens ?? body.max_tokens)
  const said = script(options.reply, body, x.n, {
    maxTokens: maxTokens ?? undefined,
    stop: typeof body.stop === "string" ? [body.stop] : (body.stop ?? []),
    partial: trailingAssistant(body.messages),
    continuation: options.continuation ?? habit(body, flavour),
    trims: options.trims,
    think: effort !== "none"
  })
  const start = performance.now()
  if (!(await loadModel(x, body.model ?? ""))) return
  const writer = makeWriter(x, options, flavour, model.name, said, performance.now() - start)
  if (body.stream === true) {
    return sendStream(x, streamTypes[flavour], writer.frames(body), {
      error: writer.errorEvent,
      malformed: `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"delta":{"content":"oo\n\n`
    })
  }
  if (x.fault?.kind === "errorLine") {
    return problem(x, flavour, { status: 500, message: x.fault.message ?? serverError })
  }
  const wait = typeof options.perToken === "number" ? options.perToken * said.completionTokens : 0
  if (wait > 0 && !(await sleep(x, wait))) return
  x.record.tokensSent = said.completionTokens
  return json(writer.whole(body, x.fault?.kind === "silentEnd" ? (x.fault.after ?? 0) : undefined))
}

const streamTypes: Readonly<Record<Flavour, string>> = {
  openai: "text/event-stream; charset=utf-8",
  llamacpp: "text/event-stream",
  vllm: "text/event-stream; charset=utf-8",
  ollama: "text/event-stream"
}

/** What each server does by itself with a trailing assistant message. */
function habit(body: Json, flavour: Flavour) {
  const continues = body.continue_final_message === true && body.add_generation_prompt === false
  if (flavour === "llamacpp") return continues ? "continue" : "echo"
  return flavour === "vllm" && continues ? "continue" : "restart"
}

function findOpenAIModel(options: FakeOpenAIOptions, flavour: Flavour, name: unknown) {
  const given = (options.models ?? []).map((model) => (typeof model === "string" ? { name: model } : model))
  const lookup = flavour === "ollama" ? findModel(options, name)?.name : name
  const found = given.find((model) => model.name === lookup)
  if (found !== undefined) return { name: String(name), contextLength: found.contextLength }
  if (flavour === "llamacpp") return { name: String(name ?? "gpt-3.5-turbo"), contextLength: given[0]?.contextLength }
  if (flavour === "ollama" && lookup !== undefined) return { name: String(name), contextLength: undefined }
  return flavour === "vllm" && name === undefined && given[0] !== undefined ? given[0] : undefined
}

/** Only a context length that was set is enforced. */
function contextOverflow(body: Json, limit: number | undefined, flavour: Flavour): Problem | undefined {
  const tokens = countPrompt(body)
  if (limit === undefined || tokens <= limit || flavour === "ollama") return undefined
  if (flavour === "llamacpp") {
    const message = "the request exceeds the available context size, try increasing it"
    const extra = { n_prompt_tokens: tokens, n_ctx: limit }
    return { status: 400, message, type: "exceed_context_size_error", extra }
  }
  const message =
    `This model's maximum context length is ${limit} tokens. However, your messages resulted in ` +
    `${tokens} tokens. Please reduce the length of the messages.`
  return { status: 400, message, param: "messages", code: "context_length_exceeded" }
}

function modelList(options: FakeOpenAIOptions, flavour: Flavour): Json {
  const owners = { openai: "system", llamacpp: "llamacpp", vllm: "vllm", ollama: "library" }
  const data = modelsOf(options).map((model) => ({
    id: flavour === "ollama" && !model.name.includes(":") ? `${model.name}:latest` : model.name,
    object: "model",
    created: 1_763_752_592,
    owned_by: owners[flavour],
    ...(flavour === "vllm" ? { root: model.name, parent: null, max_model_len: model.contextLength } : {}),
    ...(flavour === "llamacpp"
      ? { meta: { n_ctx_train: model.contextLength, n_embd: 8, n_params: 3_212_749_888, size: model.size } }
      : {})
  }))
  if (flavour !== "llamacpp") return { object: "list", data }
  const models = data.map(({ id }) => ({ name: id, model: id, type: "model", capabilities: ["completion"] }))
  return { models, object: "list", data }
}

function embeddings(x: X, options: FakeOpenAIOptions, flavour: Flavour, json: (value: Json) => Promise<void>) {
  const body = x.record.body
  const found = findOpenAIModel(options, flavour, body.model)
  if (found === undefined) return problem(x, flavour, noModel(flavour, body.model))
  const model = modelsOf(options).find(({ name }) => name === found.name) ?? findModel(options, found.name)
  if ((flavour === "ollama" || flavour === "llamacpp") && !model?.capabilities.includes("embedding")) {
    const message = "This server does not support embeddings. Start it with `--embeddings`"
    return problem(x, flavour, { status: 501, message })
  }
  const inputs: Array<Json> = Array.isArray(body.input) ? body.input : [body.input]
  const data = inputs.map((input, index) => {
    const vector = embedding(String(input), body.dimensions ?? 8)
    const base64 = Buffer.from(Float32Array.from(vector).buffer).toString("base64")
    return { object: "embedding", index, embedding: body.encoding_format === "base64" ? base64 : vector }
  })
  const tokens = inputs.length * 4
  return json({ object: "list", data, model: found.name, usage: { prompt_tokens: tokens, total_tokens: tokens } })
}

function authorized(x: X, options: FakeOpenAIOptions, flavour: Flavour): boolean {
  const { path } = x.record
  const given = x.req.headers.authorization
  if (options.apiKey === undefined || given === `Bearer ${options.apiKey}`) return true
  if (flavour === "ollama") {
    problem(x, flavour, { status: 401, message: "unauthorized" })
    return false
  }
  if (flavour === "llamacpp") {
    if (path === "/health" || path === "/v1/models") return true
    problem(x, flavour, { status: 401, message: "Invalid API Key" })
  } else if (flavour === "vllm") {
    if (!path.startsWith("/v1")) return true
    head(x, 401, { "content-type": "application/json" })
    x.res.end(JSON.stringify({ error: "Unauthorized" }))
  } else {
    const message =
      given === undefined
        ? "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth."
        : "Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys."
    const code = given === undefined ? null : "invalid_api_key"
    problem(x, flavour, { status: 401, message, type: "invalid_request_error", code })
  }
  return false
}

function unparsable(flavour: Flavour, raw: string): Problem {
  if (flavour === "ollama") return { status: 400, message: raw === "" ? "EOF" : "unexpected EOF" }
  if (flavour === "llamacpp") {
    const message = "[json.exception.parse_error.101] parse error at line 1, column 1: syntax error while parsing value"
    return { status: 500, message, type: "server_error" }
  }
  if (flavour === "vllm") return { status: 400, message: "[{'type': 'json_invalid', 'msg': 'JSON decode error'}]" }
  return { status: 400, message: failures[400] ?? "" }
}

function unknownRoute(x: X, flavour: Flavour, method: string, path: string): void {
  if (flavour === "llamacpp") {
    problem(x, flavour, { status: 404, message: "File Not Found" })
    return
  }
  if (flavour === "openai") {
    problem(x, flavour, { status: 404, message: `Invalid URL (${method} ${path})` })
    return
  }
  head(x, 404, { "content-type": flavour === "vllm" ? "application/json" : "text/plain" })
  x.res.end(flavour === "vllm" ? '{"detail":"Not Found"}' : "404 page not found")
}
