import { createHash } from "node:crypto"
import { handleOpenAI, isCompletion, openAIError } from "./fakeOpenAI.js"
import { type Dialect, type Exchange, type FakeOptions, type FakeServer, head, sleep, startServer } from "./harness.js"
import { canonical, type FakeModel, findModel, type Model, modelsOf } from "./models.js"
import { checkOllamaBody, goJson, nested, syntaxError } from "./ollamaChecks.js"
import { type Frame, loadModel, sendBody, sendStream } from "./output.js"
import { countPrompt, embedding, type Json, likelihood, type Script, script, trailingAssistant } from "./script.js"

/** Options of a fake Ollama server. */
export interface FakeOllamaOptions extends FakeOptions {
  /** The version it reports; 0.33.0 by default. */
  readonly version?: string | undefined
  /** Whether `_debug_render_only` is understood; servers that do not ignore it. True by default. */
  readonly debugRender?: boolean | undefined
  /** Whether lists and show tell capabilities; older servers do not. True by default. */
  readonly tellsCapabilities?: boolean | undefined
  /** Whether it may be asked by any host name, as one that listens on every address. False by default. */
  readonly exposed?: boolean | undefined
  /** A download stands still after so many lines of progress, until the client goes away. */
  readonly pullStallsAfter?: number | undefined
  /** When each loaded model is unloaded, as it is written; by default in 5 minutes. */
  readonly expiresAt?: string | undefined
  /** How much of each loaded model is in the memory of the graphics card, 0 to 1; all of it by default. */
  readonly vramShare?: number | undefined
}

/** Starts a fake Ollama server. It has the model `llama3.2:3b` unless told otherwise, and also answers on /v1. */
export const startFakeOllama = (options: FakeOllamaOptions = {}): Promise<FakeServer<FakeOllamaOptions>> =>
  startServer(ollama, { ...options })

type X = Exchange<FakeOllamaOptions>

const jsonType = "application/json; charset=utf-8"

const routes: Readonly<Record<string, string>> = {
  "/": "GET",
  "/api/version": "GET",
  "/api/tags": "GET",
  "/api/ps": "GET",
  "/api/show": "POST",
  "/api/chat": "POST",
  "/api/generate": "POST",
  "/api/embed": "POST",
  "/api/embeddings": "POST",
  "/api/pull": "POST",
  "/api/push": "POST",
  "/api/create": "POST",
  "/api/copy": "POST",
  "/api/delete": "DELETE",
  "/v1/models": "GET",
  "/v1/chat/completions": "POST",
  "/v1/completions": "POST",
  "/v1/embeddings": "POST"
}

const ollama: Dialect<FakeOllamaOptions> = {
  protocol: "ollama",
  kindOf: (_, path) => {
    if (path === "/api/chat" || path === "/api/generate" || isCompletion(path)) return "chat"
    if (path === "/api/tags" || path === "/v1/models") return "tags"
    return /^\/(api\/(version|ps|show)|v1\/models\/.*)?$/.test(path) ? "discovery" : "other"
  },
  fail: (x, status, headers) => {
    const message = failures[status] ?? "an error was encountered while running the model: unexpected EOF"
    if (x.record.path.startsWith("/v1/")) openAIError(x, "ollama", status, message, headers)
    else send(x, status, { error: message }, headers)
  },
  modelNotFound: (x) => {
    const message = `model '${x.record.body?.model ?? ""}' not found`
    if (x.record.path.startsWith("/v1/")) return openAIError(x, "ollama", 404, message)
    if (x.record.kind !== "chat" && x.record.path !== "/api/show") return text(x, 404, "404 page not found")
    send(x, 404, { error: message })
  },
  handle
}

const failures: Readonly<Record<number, string>> = {
  401: "unauthorized",
  403: "forbidden",
  404: "model not found",
  429: "too many requests",
  502: "upstream unavailable",
  503: "server busy, please try again.  maximum pending requests exceeded"
}

async function handle(x: X): Promise<void> {
  const { method, path } = x.record
  if (!originAllowed(x)) {
    head(x, 403, {})
    x.res.end()
    return
  }
  if (x.options.apiKey !== undefined && x.req.headers.authorization !== `Bearer ${x.options.apiKey}`) {
    return ollama.fail(x, 401)
  }
  if (path !== "/" && path.endsWith("/") && routes[path.slice(0, -1)] !== undefined) {
    head(x, 301, { location: path.slice(0, -1) })
    return void x.res.end()
  }
  const allowed = routes[path] ?? (path.startsWith("/v1/models/") ? "GET" : undefined)
  if (allowed === undefined) return text(x, 404, "404 page not found")
  const isHead = method === "HEAD" && (path === "/" || path === "/api/tags" || path === "/api/version")
  if (method === "OPTIONS" && x.req.headers.origin !== undefined) {
    head(x, 204, cors(x))
    x.res.end()
    return
  }
  if (method !== allowed && !isHead) return text(x, 405, "405 method not allowed")
  if (path.startsWith("/v1/")) return handleOpenAI(x, { ...x.options, flavour: "ollama" })
  switch (path) {
    case "/":
      return text(x, 200, "Ollama is running")
    case "/api/version":
      return reply(x, { version: x.options.version ?? "0.33.0" })
    case "/api/tags":
      return reply(x, { models: modelsOf(x.options).map((model) => listed(x, model)) })
    case "/api/ps":
      return reply(x, {
        models: modelsOf(x.options)
          .filter((model) => x.memory.has(canonical(model.name)))
          .map((model) => {
            const { capabilities: _, modified_at: __, ...rest } = listed(x, model)
            const expires_at = x.options.expiresAt ?? new Date(Date.now() + 300_000).toISOString()
            const size_vram = Math.round(model.size * (x.options.vramShare ?? 1))
            return { ...rest, expires_at, size_vram, context_length: model.contextLength }
          })
      })
  }
  const raw = x.record.rawBody
  const body = x.record.body
  if (raw === "") return send(x, 400, { error: "missing request body" })
  if (body === undefined) return send(x, 400, { error: syntaxError(raw) })
  if (typeof body !== "object" || body === null) {
    const struct = path === "/api/show" ? "ShowRequest" : path === "/api/chat" ? "ChatRequest" : "GenerateRequest"
    return send(x, 400, { error: `json: cannot unmarshal ${typeof body} into Go value of type api.${struct}` })
  }
  if (path === "/api/show") return show(x, body)
  if (path === "/api/pull") return pull(x, body)
  if (path === "/api/push" || path === "/api/create") return makes(x, body)
  if (path === "/api/copy" || path === "/api/delete") return change(x, body)
  if (path === "/api/embed" || path === "/api/embeddings") return embed(x, body)
  return generate(x, body, path === "/api/chat")
}

async function generate(x: X, body: Json, chat: boolean): Promise<void> {
  const name: string = body.model ?? ""
  const model = findModel(x.options, name)
  const problem = checkOllamaBody(body, chat, model)
  if (problem !== undefined) return send(x, problem[0], { error: problem[1] })
  if (model === undefined) return ollama.modelNotFound(x)

  const line = (fields: Json) => ({ model: name, created_at: createdAt(), ...fields })
  const nothing = chat ? { message: { role: "assistant", content: "" } } : { response: "" }
  const empty = chat ? !body.messages?.length : !body.prompt
  if (empty) {
    const unload = body.keep_alive === 0 || body.keep_alive === "0"
    if (unload) x.memory.delete(canonical(name))
    else if (!(await loadModel(x, name))) return
    return reply(x, line({ ...nothing, done: true, done_reason: unload ? "unload" : "load" }))
  }
  if (body._debug_render_only === true && x.options.debugRender !== false) {
    const rendered_template = chat ? chatMl(body.messages) : rendered(body)
    const fields = chat ? { message: { role: "", content: "" } } : { response: "" }
    return reply(x, line({ ...fields, done: false, _debug_info: { rendered_template } }))
  }
  const limit = model.contextLength
  if (body.truncate === false && countPrompt(body) > limit) {
    return send(x, 400, {
      error: nested("exceed_context_size_error", "the request exceeds the available context size, try increasing it", {
        n_prompt_tokens: countPrompt(body),
        n_ctx: limit
      })
    })
  }
  const rawPartial = body.raw === true ? body.prompt.split("<|im_start|>assistant\n").slice(1).pop() : undefined
  const said = script(x.options.reply, body, x.n, {
    maxTokens: body.options?.num_predict,
    stop: body.options?.stop,
    partial: chat ? trailingAssistant(body.messages) : rawPartial || undefined,
    continuation: rawPartial ? "continue" : (x.options.continuation ?? "restart"),
    trims: rawPartial ? false : x.options.trims,
    think: body.think !== false,
    after: !chat && rawPartial === undefined && (body.raw === true || body.suffix) ? body.prompt : undefined
  })
  const start = performance.now()
  if (!(await loadModel(x, name))) return
  const loaded = performance.now()
  if (body.keep_alive === 0 || body.keep_alive === "0") x.memory.delete(canonical(name))

  const delta = (content: string, thinking?: string, calls?: Json) =>
    chat
      ? {
          message: {
            role: "assistant",
            content,
            ...(thinking === undefined ? {} : { thinking }),
            ...(calls === undefined ? {} : { tool_calls: calls })
          }
        }
      : { response: content, ...(thinking === undefined ? {} : { thinking }) }
  const calls = said.toolCalls.map((call, index) => ({
    id: `call_${createHash("sha1").update(`${x.n}:${index}:${call.name}`).digest("hex").slice(0, 8)}`,
    function: { index, name: call.name, arguments: call.arguments }
  }))
  const ending = (content: Json) =>
    line({
      ...content,
      done: true,
      done_reason: said.finish,
      ...(chat || body.raw === true ? {} : { context: [318, 257, 1049] }),
      ...metrics(said, loaded - start, performance.now() - loaded)
    })

  if (body.stream === false) {
    if (x.fault?.kind === "errorLine") {
      return send(x, 500, { error: x.fault.message ?? runnerDied })
    }
    const perToken = x.options.perToken
    const wait = typeof perToken === "number" ? perToken * said.completionTokens : 0
    if (wait > 0 && !(await sleep(x, wait))) return
    const thinking = said.thinking.length > 0 ? said.thinking.join("") : undefined
    const toolCalls = calls.length > 0 ? calls : undefined
    if (x.fault?.kind === "silentEnd") {
      const some = said.tokens.slice(0, x.fault.after ?? 0).join("")
      return reply(x, line({ ...delta(some, thinking), done: false }))
    }
    x.record.tokensSent = said.completionTokens
    return reply(x, ending(delta(said.tokens.join(""), thinking, toolCalls)))
  }
  const frame = (fields: Json, token = true): Frame => ({ text: `${goJson(fields)}\n`, token })
  const frames = [
    ...said.thinking.map((thought) => frame(line({ ...delta("", thought), done: false }))),
    ...said.tokens.map((token) =>
      frame(
        line({
          ...delta(token),
          done: false,
          ...(body.logprobs === true ? { logprobs: [likelihood(token, body.top_logprobs)] } : {})
        })
      )
    ),
    ...(chat ? calls.map((call) => frame(line({ ...delta("", undefined, [call]), done: false }))) : []),
    frame(ending(nothing), false)
  ]
  await sendStream(x, "application/x-ndjson", frames, {
    error: (message) => `${goJson({ error: message ?? runnerDied })}\n`,
    malformed: `{"model":"${name}","created_at":"${createdAt()}","message":{"role":"assistant","content":"oo\n`
  })
}

const runnerDied = "an error was encountered while running the model: unexpected EOF"

function show(x: X, body: Json): void | Promise<void> {
  const name = body.model ?? body.name
  if (!name) return send(x, 400, { error: "model is required" })
  if (/\s/.test(name)) return send(x, 400, { error: "invalid model name" })
  const model = findModel(x.options, name)
  const tagged = name.includes(":") ? name : `${name}:latest`
  if (model === undefined) return send(x, 404, { error: `model '${tagged}' not found` })
  const { details, modified_at, capabilities } = listed(x, model)
  return reply(x, {
    license: "MIT",
    modelfile: `# Modelfile generated by "ollama show"\nFROM ${model.name}\n`,
    parameters: `num_ctx                        ${model.contextLength}\nstop                           "<|im_end|>"`,
    template:
      "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}" + "<|im_start|>assistant\n",
    details,
    model_info: {
      "general.architecture": model.family,
      "general.parameter_count": 3_212_749_888,
      [`${model.family}.context_length`]: model.contextLength,
      [`${model.family}.embedding_length`]: 8,
      "tokenizer.ggml.tokens": null
    },
    tensors: [],
    ...(capabilities === undefined ? {} : { capabilities }),
    modified_at
  })
}

function embed(x: X, body: Json): void | Promise<void> {
  const model = findModel(x.options, body.model)
  if (model === undefined) {
    return send(x, 404, { error: `model "${body.model ?? ""}" not found, try pulling it first` })
  }
  const legacy = x.record.path === "/api/embeddings"
  const input: Json = legacy ? (body.prompt ?? "") : (body.input ?? [])
  const inputs: Array<Json> = Array.isArray(input) ? input : [input]
  if (inputs.some((item) => typeof item !== "string")) return send(x, 400, { error: "invalid input type" })
  if (!model.capabilities.includes("embedding")) {
    return send(x, 501, { error: "This server does not support embeddings. Start it with `--embeddings`" })
  }
  if (legacy) return reply(x, { embedding: embedding(input) })
  const embeddings = inputs.map((item) => embedding(item, body.dimensions ?? 8))
  const metrics = { total_duration: 14_143_917, load_duration: 1_019_500, prompt_eval_count: inputs.length * 4 }
  return reply(x, { model: body.model, embeddings, ...(inputs.length === 0 ? {} : metrics) })
}

/** Pulled, copied and deleted models are there, or not, from the next request on. */
const setModels = (x: X, models: ReadonlyArray<FakeModel>) => Object.assign(x.options, { models })

async function pull(x: X, body: Json): Promise<void> {
  const name: string = body.model ?? body.name ?? ""
  if (name === "" || /\s/.test(name)) return send(x, 400, { error: "invalid model name" })
  const digest = `sha256:${createHash("sha256").update(name).digest("hex")}`
  const layer = { status: `pulling ${digest.slice(7, 19)}`, digest, total: 1_185_760 }
  const known = !name.startsWith("missing")
  const lines: ReadonlyArray<Json> = known
    ? [
        { status: "pulling manifest" },
        layer,
        { ...layer, completed: 131_072 },
        { ...layer, completed: 1_185_760 },
        { status: "verifying sha256 digest" },
        { status: "writing manifest" },
        { status: "success" }
      ]
    : [{ status: "pulling manifest" }, { error: "pull model manifest: file does not exist" }]
  const stall = x.options.pullStallsAfter
  if (stall !== undefined) {
    await tell(x, lines.slice(0, stall), false)
    return
  }
  if (known && findModel(x.options, name) === undefined) setModels(x, [...modelsOf(x.options), { name }])
  if (body.stream === false) {
    if (known) return sendBody(x, 200, "application/json", goJson({ status: "success" }))
    return send(x, 500, { error: "pull model manifest: file does not exist" })
  }
  return tell(x, lines)
}

async function tell(x: X, lines: ReadonlyArray<Json>, ends = true): Promise<void> {
  head(x, 200, { "content-type": "application/x-ndjson" })
  for (const line of lines) {
    if (!(await sleep(x, 1))) return
    x.res.write(`${goJson(line)}\n`)
  }
  if (ends) x.res.end()
}

/** Makes a model of another one, or uploads one. */
function makes(x: X, body: Json): void | Promise<void> {
  const creates = x.record.path === "/api/create"
  const name: string = body.model ?? body.name ?? ""
  if (name === "" || /\s/.test(name)) return send(x, 400, { error: "invalid model name" })
  if (creates && !body.from && !body.files) {
    return send(x, 400, { error: "neither 'from' or 'files' was specified" })
  }
  const from = findModel(x.options, creates ? body.from : name)
  if (from === undefined) {
    const error = creates ? `pull model manifest: file does not exist` : `couldn't find model "${name}"`
    return body.stream === false ? send(x, 500, { error }) : tell(x, [{ error }])
  }
  if (creates) setModels(x, [...modelsOf(x.options), { ...from, name }])
  if (body.stream === false) return sendBody(x, 200, "application/json", goJson({ status: "success" }))
  const digest = `sha256:${from.digest}`
  return tell(x, [
    { status: creates ? `using existing layer ${digest}` : "retrieving manifest" },
    { status: creates ? "writing manifest" : "pushing manifest" },
    { status: "success" }
  ])
}

function change(x: X, body: Json): void | Promise<void> {
  const copies = x.record.path === "/api/copy"
  const name: string = (copies ? body.source : (body.model ?? body.name)) ?? ""
  if (name === "") return send(x, 400, { error: copies ? `source "" is invalid` : `name "" is invalid` })
  if (copies && !body.destination) return send(x, 400, { error: `destination "" is invalid` })
  const model = findModel(x.options, name)
  if (model === undefined) {
    return send(x, 404, { error: copies ? `model "${name}" not found` : `model '${name}' not found` })
  }
  const models = modelsOf(x.options)
  setModels(
    x,
    copies ? [...models, { ...model, name: body.destination }] : models.filter((one) => one.name !== model.name)
  )
  head(x, 200, {})
  x.res.end()
}

const listed = (x: X, model: Model): Json => {
  const name = model.name.includes(":") ? model.name : `${model.name}:latest`
  return {
    name,
    model: name,
    modified_at: "2026-11-21T19:16:32.427116356Z",
    size: model.size,
    digest: model.digest,
    details: {
      parent_model: "",
      format: "gguf",
      family: model.family,
      families: [model.family],
      parameter_size: model.parameterSize,
      quantization_level: model.quantization
    },
    ...(x.options.tellsCapabilities === false ? {} : { capabilities: model.capabilities })
  }
}

function metrics(said: Script, loadMs: number, evalMs: number): Json {
  const load_duration = Math.round(loadMs * 1e6) + 851_970
  const eval_duration = Math.max(Math.round(evalMs * 1e6), said.completionTokens * 1_000_000)
  const all = {
    total_duration: load_duration + eval_duration + 38_312_000,
    load_duration,
    prompt_eval_count: said.promptTokens,
    prompt_eval_duration: 38_312_000,
    eval_count: said.completionTokens,
    eval_duration
  }
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== 0))
}

const chatMl = (messages: ReadonlyArray<Json>) =>
  `${messages.map((m) => `<|im_start|>${m.role}\n${m.content ?? ""}<|im_end|>\n`).join("")}<|im_start|>assistant\n`

/** With a template of the request's own, as far as the fake knows its language. */
const rendered = ({ prompt, system = "", template = "{{ .Prompt }}" }: Json): string =>
  template.replaceAll("{{ .System }}", system).replaceAll("{{ .Prompt }}", prompt)

const createdAt = () => {
  const nanos = String(Math.floor(Math.random() * 1e6)).padStart(6, "0")
  return `${new Date().toISOString().slice(0, -1)}${nanos}`.replace(/\.?0+$/, "") + "Z"
}

const localHost = /^(localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1\]|.*\.(localhost|local|internal))(:\d+)?$/

/** Only a local Host and a local Origin are let in. */
function originAllowed(x: X): boolean {
  const { host, origin } = x.req.headers
  if (host !== undefined && x.options.exposed !== true && !localHost.test(host)) return false
  return (
    origin === undefined ||
    /^(app|file|tauri|vscode-webview|vscode-file):/.test(origin) ||
    localHost.test(origin.replace(/^https?:\/\//, ""))
  )
}

const cors = (x: X): Record<string, string> =>
  x.req.headers.origin === undefined
    ? {}
    : {
        "access-control-allow-origin": x.req.headers.origin,
        "access-control-allow-methods": "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
        "access-control-allow-headers": "Authorization,Content-Type,User-Agent,Accept,X-Requested-With"
      }

const send = (x: X, status: number, body: Json, headers: Readonly<Record<string, string>> = {}) => {
  head(x, status, { "content-type": jsonType, ...cors(x), ...headers })
  x.res.end(goJson(body))
}

const reply = (x: X, body: Json) => sendBody(x, 200, jsonType, goJson(body), cors(x))

const text = (x: X, status: number, body: string) =>
  sendBody(x, status, status === 200 ? "text/plain; charset=utf-8" : "text/plain", body)
