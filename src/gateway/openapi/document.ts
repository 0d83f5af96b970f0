/** The gateway's own documentation: `/openapi.json`, and `/docs` for people. */
import { version } from "../../internal/version.js"
import { bodies } from "./bodies.js"

/** Every endpoint: method, path and summary. */
export const summaries: ReadonlyArray<readonly [method: string, path: string, about: string]> = [
  ["POST", "/v1/chat/completions", "Creates a chat completion, complete or streamed (OpenAI)"],
  ["POST", "/v1/completions", "Completes a text, or fills in the middle (OpenAI)"],
  ["POST", "/v1/responses", "Creates a response, complete or streamed (OpenAI)"],
  ["POST", "/v1/responses/compact", "Compacts a conversation (OpenAI)"],
  ["GET", "/v1/responses/{id}", "A stored response (OpenAI)"],
  ["DELETE", "/v1/responses/{id}", "Deletes a response (OpenAI)"],
  ["GET", "/v1/responses/{id}/input_items", "The input items of a response (OpenAI)"],
  ["POST", "/v1/embeddings", "Embeddings of texts (OpenAI)"],
  ["POST", "/v1/messages", "Creates a message, complete or streamed (Anthropic)"],
  ["POST", "/v1/messages/count_tokens", "Estimates the tokens of a prompt (Anthropic)"],
  ["GET", "/v1/models", "The models of the fleet (OpenAI; with anthropic-version: Anthropic)"],
  ["GET", "/v1/models/{id}", "One model (OpenAI; with anthropic-version: Anthropic)"],
  ["POST", "/v1/sessions", "Creates a conversation"],
  ["GET", "/v1/sessions", "The most recently used conversations, at most 50"],
  ["GET", "/v1/sessions/{id}", "The messages of a conversation"],
  ["DELETE", "/v1/sessions/{id}", "Deletes a conversation"],
  ["POST", "/api/chat", "A chat answer, streamed or complete (Ollama)"],
  ["POST", "/api/generate", "An answer to a prompt, or the completion of a text, streamed or complete (Ollama)"],
  ["POST", "/api/embed", "Embeddings of texts (Ollama)"],
  ["POST", "/api/embeddings", "The embedding of one text (Ollama, older form)"],
  ["GET", "/api/tags", "The models of all servers (Ollama)"],
  ["GET", "/api/ps", "The loaded models and their servers (Ollama)"],
  ["POST", "/api/show", "Information about a model (Ollama)"],
  ["GET", "/api/version", "The version of the API (Ollama)"],
  ["POST", "/api/pull", "Downloads a model, on the server with the most room unless one is named (Ollama)"],
  ["POST", "/api/create", "Creates a model from another one on its server (Ollama)"],
  ["HEAD", "/api/blobs/{id}", "Whether a server has a file that a model can be made of (Ollama)"],
  ["POST", "/api/blobs/{id}", "Sends such a file to a server; only the size of its disk bounds it (Ollama)"],
  ["POST", "/api/push", "Uploads a model from a server that has it (Ollama)"],
  ["POST", "/api/copy", "Copies a model to another name on every server that has it (Ollama)"],
  ["DELETE", "/api/delete", "Deletes a model on every server that has it (Ollama)"],
  ["GET", "/", "What this is, and its endpoints"],
  ["GET", "/models", "The names of the models"],
  ["GET", "/health", "Whether the gateway is alive"],
  ["GET", "/healthz", "The same"],
  ["GET", "/ready", "Whether a server answers"],
  ["GET", "/config", "The settings, without secrets"],
  ["GET", "/metrics", "Metrics for Prometheus"],
  ["GET", "/openapi.json", "This description"],
  ["GET", "/docs", "This documentation as a web page"]
]

const text = { type: "string" }
const object = { type: "object" }

const errorResponse = {
  type: "object",
  required: ["error"],
  properties: {
    error: {
      type: "object",
      required: ["message", "type", "param", "code"],
      properties: {
        message: text,
        type: text,
        param: { type: ["string", "null"] },
        code: { type: ["string", "null"] },
        attempts: { type: "array", items: object },
        request_id: text
      }
    }
  }
}
const ollamaProblem = { type: "object", required: ["error"], properties: { error: text, request_id: text } }

const anthropicProblem = {
  type: "object",
  required: ["type", "error", "request_id"],
  properties: {
    type: { const: "error" },
    error: {
      type: "object",
      required: ["type", "message"],
      properties: {
        type: text,
        message: text,
        details: { type: "object", required: ["error_code"], properties: { error_code: text } },
        attempts: { type: "array", items: object }
      }
    },
    request_id: text
  }
}
const problemOf = (path: string): object =>
  path.startsWith("/api") ? ollamaProblem : path.startsWith("/v1/messages") ? anthropicProblem : errorResponse

const requestHeaders = [
  {
    name: "X-Request-Id",
    in: "header",
    description: "The request id in answers, errors and the log: at most 128 letters, digits and ._:-",
    schema: { type: "string", pattern: "^[A-Za-z0-9_.:-]{1,128}$" }
  },
  {
    name: "traceparent",
    in: "header",
    description: "The caller's span (W3C Trace Context), the parent of the request's; passed on to servers",
    schema: text
  },
  { name: "tracestate", in: "header", description: "Passed on with it", schema: text }
]

/** Available without an API key where keys are required. */
const open: ReadonlySet<string> = new Set(["/", "/health", "/healthz", "/ready", "/openapi.json", "/docs"])

/** Endpoints that can answer as a stream. */
const streams: { readonly [path: string]: string } = {
  "/v1/chat/completions": "text/event-stream",
  "/v1/completions": "text/event-stream",
  "/v1/responses": "text/event-stream",
  "/v1/messages": "text/event-stream",
  "/api/chat": "application/x-ndjson",
  "/api/generate": "application/x-ndjson",
  "/api/pull": "application/x-ndjson",
  "/api/create": "application/x-ndjson",
  "/api/push": "application/x-ndjson"
}
/** Answers that are not JSON. */
const plain: { readonly [path: string]: string } = { "/metrics": "text/plain", "/docs": "text/html" }
const changes: ReadonlySet<string> = new Set([
  "/api/pull",
  "/api/create",
  "/api/push",
  "/api/copy",
  "/api/delete",
  "/api/blobs/{id}"
])
const answers: ReadonlySet<string> = new Set([
  "/v1/chat/completions",
  "/v1/completions",
  "/v1/responses",
  "/v1/messages",
  "/api/chat",
  "/api/generate"
])

const parameter = (name: string, where: "path" | "query" | "header", description: string): object => ({
  name,
  in: where,
  required: where === "path",
  description,
  schema: text
})

const anthropicVersion = parameter("anthropic-version", "header", "Has the answer in the form of Anthropic's API.")

const queries: { readonly [path: string]: ReadonlyArray<object> } = {
  "/v1/models": [
    anthropicVersion,
    parameter("limit", "query", "With anthropic-version: maximum number of models, from 1 to 1,000. Default: 1,000."),
    parameter("after_id", "query", "With anthropic-version: the page starts after this model."),
    parameter("before_id", "query", "With anthropic-version: the page ends before this model.")
  ],
  "/v1/models/{id}": [anthropicVersion],
  "/v1/responses/{id}/input_items": [
    parameter("limit", "query", "Maximum number of items, from 1 to 100. Default: 20."),
    parameter("order", "query", "asc or desc. Default: desc, the latest first."),
    parameter("after", "query", "The list starts after the item with this id.")
  ]
}

const parametersOf = (path: string): ReadonlyArray<object> => [
  ...(path.includes("{id}")
    ? [parameter("id", "path", "The name of a model, a response, a conversation, or a file (sha256:…).")]
    : []),
  ...(queries[path] ?? []),
  ...(answers.has(path)
    ? [parameter("X-Aicortex-Max-Retries", "header", "Total number of attempts, from 1 to 16.")]
    : []),
  ...(answers.has(path) ? [parameter("X-Aicortex-Session", "header", "The same as session in the body.")] : []),
  ...(answers.has(path)
    ? [parameter("X-Aicortex-Priority", "header", "batch lets interactive requests go first.")]
    : []),
  ...(changes.has(path)
    ? [
        parameter("server", "query", "The same as server in the body."),
        parameter("X-Aicortex-Target", "header", "The same as server in the body.")
      ]
    : []),
  ...requestHeaders
]

const receipts = {
  "X-Aicortex-Server": { description: "Which server answered.", schema: text },
  "X-Aicortex-Attempts": { description: "How many servers were tried.", schema: { type: "integer" } },
  "X-Aicortex-Reason": { description: "Why this one: the routing, a failover, or the cache.", schema: text }
}

const succeeded = (path: string): object => {
  const json = { "application/json": { schema: object } }
  const type = streams[path]
  const other = plain[path]
  return {
    description: "What was asked for.",
    ...(answers.has(path) || path.endsWith("/embeddings") || path === "/api/embed" ? { headers: receipts } : {}),
    content:
      other !== undefined
        ? { [other]: { schema: text } }
        : type === undefined
          ? json
          : { ...json, [type]: { schema: text } }
  }
}

const operation = (method: string, path: string, summary: string): object => {
  const body = bodies[path]
  const binary = method === "POST" && path === "/api/blobs/{id}"
  return {
    summary,
    operationId: `${method.toLowerCase()}${path.replace(/[^a-z0-9]+/gi, "_")}`,
    parameters: parametersOf(path),
    ...(binary ? { requestBody: { required: true, content: { "application/octet-stream": {} } } } : {}),
    ...(body === undefined
      ? {}
      : { requestBody: { required: true, content: { "application/json": { schema: body } } } }),
    ...(open.has(path) ? { security: [] } : {}),
    responses: {
      [binary || (method === "POST" && path === "/v1/sessions") ? 201 : 200]: succeeded(path),
      default: {
        description: "What is wrong.",
        content: { "application/json": { schema: problemOf(path) } }
      }
    }
  }
}

const paths: { [path: string]: { [method: string]: object } } = {}
for (const [method, path, about] of summaries) {
  const known = paths[path] ?? {}
  paths[path] = known
  known[method.toLowerCase()] = operation(method, path, about)
}

export const document = {
  openapi: "3.1.0",
  info: {
    title: "aicortex",
    version,
    description: "A fleet of language-model servers behind one OpenAI-, Anthropic- and Ollama-compatible server."
  },
  security: [{}, { key: [] }, { header: [] }],
  components: {
    securitySchemes: {
      key: { type: "http", scheme: "bearer" },
      header: { type: "apiKey", in: "header", name: "x-api-key" }
    }
  },
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

export const page = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>aicortex</title>
<style>body{font:16px/1.5 system-ui;margin:2rem auto;max-width:56rem;padding:0 1rem}td{padding:.2rem .8rem .2rem 0;vertical-align:top}pre{background:#f4f4f4;padding:1rem;overflow:auto}</style>
</head><body><h1>aicortex ${version}</h1>
<p>A fleet of language-model servers behind one server. Point any OpenAI client at <code>/v1</code>, and any Anthropic
or Ollama client at this address. The whole API is in <a href="/openapi.json">openapi.json</a>.</p>
<pre>curl http://HOST:PORT/v1/chat/completions -H 'content-type: application/json' \\
  -d '{"model":"auto","messages":[{"role":"user","content":"Why is the sky blue?"}],"stream":true}'</pre>
<table>${rows}</table>
<h2>Headers</h2>
<table>
<tr><td><code>X-Aicortex-Server</code></td><td>Which server answered.</td></tr>
<tr><td><code>X-Aicortex-Attempts</code></td><td>How many servers were tried.</td></tr>
<tr><td><code>X-Aicortex-Reason</code></td><td>Why this one: the routing, a failover, or the cache.</td></tr>
<tr><td><code>X-Aicortex-Priority</code></td><td><code>batch</code> lets interactive requests go first (in a request).</td></tr>
<tr><td><code>X-Aicortex-Session</code></td><td>A conversation to continue (in a request).</td></tr>
<tr><td><code>X-Request-Id</code></td><td>The request id in answers, errors and the log; yours is used if you send one.</td></tr>
<tr><td><code>traceparent</code>, <code>tracestate</code></td><td>The trace that a request is a part of; passed on to servers.</td></tr>
</table></body></html>
`
