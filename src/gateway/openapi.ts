/**
 * What the gateway says of itself: `/openapi.json`, and `/docs` for who reads.
 *
 * @since 0.1.0
 */
import { version } from "../internal/version.js"

/**
 * Every endpoint: method, path, and what it is for.
 *
 * @since 0.1.0
 * @category constants
 */
export const summaries: ReadonlyArray<readonly [method: string, path: string, about: string]> = [
  ["POST", "/v1/chat/completions", "A chat completion, whole or as a stream (OpenAI)"],
  ["POST", "/v1/completions", "What comes next in a text, or stands between two (OpenAI)"],
  ["POST", "/v1/responses", "A response, whole or as events (OpenAI)"],
  ["POST", "/v1/embeddings", "Embeddings of texts (OpenAI)"],
  ["GET", "/v1/models", "The models of the fleet (OpenAI)"],
  ["GET", "/v1/models/{id}", "One model (OpenAI)"],
  ["POST", "/v1/sessions", "A new conversation that the gateway remembers"],
  ["GET", "/v1/sessions/{id}", "What was said in a conversation"],
  ["DELETE", "/v1/sessions/{id}", "Forgets a conversation"],
  ["POST", "/api/chat", "A chat, as a stream of lines or whole (Ollama)"],
  ["POST", "/api/generate", "An answer to a prompt, or the rest of a text, as a stream of lines or whole (Ollama)"],
  ["POST", "/api/embed", "Embeddings of texts (Ollama)"],
  ["POST", "/api/embeddings", "The embedding of one text (Ollama, older form)"],
  ["GET", "/api/tags", "The models of all servers (Ollama)"],
  ["GET", "/api/ps", "What is in memory, and where (Ollama)"],
  ["POST", "/api/show", "What is known of a model (Ollama)"],
  ["GET", "/api/version", "The version of the API (Ollama)"],
  ["POST", "/api/pull", "Downloads a model on one server, or on all (Ollama)"],
  ["POST", "/api/copy", "Gives a model another name (Ollama)"],
  ["DELETE", "/api/delete", "Deletes a model (Ollama)"],
  ["GET", "/models", "The names of the models"],
  ["GET", "/health", "Whether the gateway lives"],
  ["GET", "/ready", "Whether a server answers"],
  ["GET", "/config", "The settings, without secrets"],
  ["GET", "/metrics", "Figures for Prometheus"]
]

const number = (minimum?: number, maximum?: number) => ({
  type: "number",
  ...(minimum === undefined ? {} : { minimum }),
  ...(maximum === undefined ? {} : { maximum })
})
const whole = (minimum: number, maximum?: number) => ({ ...number(minimum, maximum), type: "integer" })
const text = { type: "string" }
const flag = { type: "boolean" }
const object = { type: "object" }
const list = (items: object) => ({ type: "array", items })

const sampling = {
  model: { ...text, description: "A model, an alias, provider:model, or auto. Default: the default model." },
  stream: { ...flag, default: false },
  stream_options: { type: "object", properties: { include_usage: flag } },
  temperature: { ...number(0, 2), default: 0.7 },
  top_p: { ...number(0, 1), default: 1 },
  stop: { anyOf: [text, list(text)] },
  seed: { type: "integer" },
  frequency_penalty: number(-2, 2),
  presence_penalty: number(-2, 2),
  top_k: whole(0),
  min_p: number(0, 1),
  repeat_penalty: number(0),
  logit_bias: { type: "object", additionalProperties: number(-100, 100) },
  reasoning_effort: { enum: ["none", "minimal", "low", "medium", "high", "xhigh"] },
  think: { anyOf: [flag, { enum: ["low", "medium", "high", "max"] }] },
  keep_alive: { anyOf: [{ type: "number" }, text] },
  num_ctx: whole(1),
  options: { ...object, description: "Ollama's own options, for Ollama's servers." },
  user: text,
  session: { ...text, description: "A conversation of /v1/sessions, which is gone on with." },
  routing: { enum: ["random", "fastest", "nearest", "balanced", "least-busy", "warm"] },
  cache: { anyOf: [flag, { type: "object", properties: { ttl: number(1) } }] }
}

const bodies: { readonly [path: string]: object } = {
  "/v1/chat/completions": {
    type: "object",
    required: ["messages"],
    properties: {
      messages: { ...list(object), minItems: 1 },
      ...sampling,
      max_tokens: whole(1),
      max_completion_tokens: whole(1),
      n: { ...whole(1, 128), default: 1 },
      tools: list(object),
      tool_choice: { anyOf: [{ enum: ["none", "auto", "required"] }, object] },
      parallel_tool_calls: flag,
      response_format: { type: "object", properties: { type: { enum: ["text", "json_object", "json_schema"] } } }
    },
    additionalProperties: false
  },
  "/v1/completions": {
    type: "object",
    required: ["prompt"],
    properties: {
      prompt: { anyOf: [text, list(text)], description: "Goes to the model as it is, without a chat template." },
      suffix: { ...text, description: "What follows the gap that is to be filled." },
      raw: { ...flag, default: true, description: "false: the prompt is put into the chat template." },
      ...sampling,
      max_tokens: { ...whole(1), default: 16 },
      n: { ...whole(1, 128), default: 1 },
      echo: flag,
      logprobs: whole(0, 20)
    },
    additionalProperties: false
  },
  "/api/generate": {
    type: "object",
    properties: {
      model: sampling.model,
      prompt: { ...text, description: "Empty: the model is loaded, and no more." },
      suffix: { ...text, description: "What follows the gap that is to be filled." },
      raw: { ...flag, default: false, description: "The prompt goes to the model as it is, without a template." },
      system: text,
      images: list(text),
      stream: { ...flag, default: true },
      format: { anyOf: [{ enum: ["json", ""] }, object] },
      options: { ...object, description: "Ollama's own options." },
      keep_alive: sampling.keep_alive,
      think: sampling.think,
      logprobs: flag,
      top_logprobs: whole(0, 20),
      truncate: flag,
      shift: flag,
      session: sampling.session,
      routing: sampling.routing,
      cache: sampling.cache
    },
    additionalProperties: false
  },
  "/v1/responses": {
    type: "object",
    required: ["input"],
    properties: {
      input: { anyOf: [text, list(object)] },
      instructions: text,
      ...sampling,
      max_output_tokens: whole(1),
      tools: list(object),
      tool_choice: { anyOf: [{ enum: ["none", "auto", "required"] }, object] },
      text: object,
      reasoning: object
    },
    additionalProperties: false
  },
  "/v1/embeddings": {
    type: "object",
    required: ["model", "input"],
    properties: {
      model: text,
      input: { anyOf: [text, list({ anyOf: [text, { type: "integer" }, list({ type: "integer" })] })] },
      encoding_format: { enum: ["float", "base64"] },
      dimensions: whole(1)
    },
    additionalProperties: false
  }
}

const problem = {
  type: "object",
  required: ["error"],
  properties: {
    error: {
      type: "object",
      properties: {
        message: text,
        type: text,
        param: { type: ["string", "null"] },
        code: { type: ["string", "null"] },
        attempts: list(object)
      }
    }
  }
}
const ollamaProblem = { type: "object", required: ["error"], properties: { error: text } }

const operation = (method: string, path: string, summary: string): object => ({
  summary,
  operationId: `${method.toLowerCase()}${path.replace(/[^a-z0-9]+/gi, "_")}`,
  ...(path.endsWith("{id}") ? { parameters: [{ name: "id", in: "path", required: true, schema: text }] } : {}),
  ...(method === "POST" || path === "/api/delete"
    ? { requestBody: { content: { "application/json": { schema: bodies[path] ?? object } } } }
    : {}),
  responses: {
    200: { description: "What was asked for." },
    default: {
      description: "What is wrong.",
      content: { "application/json": { schema: path.startsWith("/api") ? ollamaProblem : problem } }
    }
  }
})

const paths: { [path: string]: { [method: string]: object } } = {}
for (const [method, path, about] of summaries) {
  const known = paths[path] ?? {}
  paths[path] = known
  known[method.toLowerCase()] = operation(method, path, about)
}

/**
 * @since 0.1.0
 * @category constants
 */
export const document = {
  openapi: "3.1.0",
  info: {
    title: "aicortex",
    version,
    description: "A fleet of language-model servers behind one OpenAI- and Ollama-compatible server."
  },
  security: [{}, { key: [] }],
  components: { securitySchemes: { key: { type: "http", scheme: "bearer" } } },
  paths
}

const escape = (value: string): string =>
  value.replace(/[&<>]/g, (c) => (c === "&" ? "&amp;" : c === "<" ? "&lt;" : "&gt;"))

const rows = summaries
  .map(
    ([method, path, about]) =>
      `<tr><td>${method}</td><td><code>${escape(path)}</code></td><td>${escape(about)}</td></tr>`
  )
  .join("\n")

/**
 * @since 0.1.0
 * @category constants
 */
export const page = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>aicortex</title>
<style>body{font:16px/1.5 system-ui;margin:2rem auto;max-width:56rem;padding:0 1rem}td{padding:.2rem .8rem .2rem 0;vertical-align:top}pre{background:#f4f4f4;padding:1rem;overflow:auto}</style>
</head><body><h1>aicortex ${version}</h1>
<p>A fleet of language-model servers behind one server. Point any OpenAI client at <code>/v1</code>, and any Ollama
client at this address. The whole API is in <a href="/openapi.json">openapi.json</a>.</p>
<pre>curl http://HOST:PORT/v1/chat/completions -H 'content-type: application/json' \\
  -d '{"model":"auto","messages":[{"role":"user","content":"Why is the sky blue?"}],"stream":true}'</pre>
<table>${rows}</table>
<h2>Headers</h2>
<table>
<tr><td><code>X-Aicortex-Server</code></td><td>Which server answered.</td></tr>
<tr><td><code>X-Aicortex-Attempts</code></td><td>How many servers were tried.</td></tr>
<tr><td><code>X-Aicortex-Reason</code></td><td>Why this one: the routing, a failover, or the cache.</td></tr>
<tr><td><code>X-Aicortex-Session</code></td><td>A conversation to go on with (in a request).</td></tr>
<tr><td><code>X-Request-Id</code></td><td>The request's name in logs; yours is taken where you send one.</td></tr>
</table></body></html>
`
