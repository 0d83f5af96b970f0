/** The gateway's own documentation: `/openapi.json`, and `/docs` for people. */
import { version } from "../../internal/version.js"
import type * as Body from "../http/bodyDeclaration.js"
import { exampleOf } from "./example.js"

/** A parameter of an endpoint. */
interface Parameter {
  readonly name: string
  readonly in: "path" | "query" | "header"
  readonly required: boolean
  readonly description: string
  readonly schema: object
}

/** The description of a route. */
export interface Endpoint {
  /** What it does, in one line. */
  readonly about: string
  /** Needs no key. */
  readonly isPublic: boolean
  /** Needs administrator rights. */
  readonly admin: boolean
  /** The body that it reads. */
  readonly body?: Pick<Body.Struct<Body.FieldMap>, "schema" | "name">
  /** A body to begin with; default: its required fields. */
  readonly example?: object
  /** Its body is a file, which its handler reads. */
  readonly isBinary?: boolean
  /** A model answers: the headers for retries, conversation and priority apply. */
  readonly isAnswer?: boolean
  /** The response names the server that it comes from. */
  readonly namesServer?: boolean
  /** The type of the response if it is streamed. */
  readonly streams?: "text/event-stream" | "application/x-ndjson"
  /** The type of the response if it is not JSON. */
  readonly returns?: string
  /** It answers with 201. */
  readonly creates?: boolean
  readonly parameters?: ReadonlyArray<Parameter>
}

/** Endpoints by path, and then by method. */
type Endpoints = ReadonlyMap<string, ReadonlyMap<string, Endpoint>>

interface Listed {
  readonly method: string
  readonly path: string
  readonly endpoint: Endpoint
}

/** A path that ends in `/` is followed by a name. */
const listed = (endpoints: Endpoints): ReadonlyArray<Listed> =>
  [...endpoints].flatMap(([key, methods]) => {
    const path = key.endsWith("/") && key !== "/" ? `${key}{id}` : key
    return [...methods].map(([method, endpoint]) => ({ method, path, endpoint }))
  })

/** What each endpoint does, by method and path. */
export const summaries = (endpoints: Endpoints): { readonly [endpoint: string]: string } =>
  Object.fromEntries(listed(endpoints).map(({ endpoint, method, path }) => [`${method} ${path}`, endpoint.about]))

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

const parameter = (name: string, where: Parameter["in"], description: string): Parameter => ({
  name,
  in: where,
  required: where === "path",
  description,
  schema: text
})

/** A parameter in the address. */
export const query = (name: string, description: string): Parameter => parameter(name, "query", description)

/** A header of the request. */
export const header = (name: string, description: string): Parameter => parameter(name, "header", description)

const named = parameter("id", "path", "The name of a model, a response, a conversation, or a file (sha256:…).")

const ofAnswers = [
  header("X-Aicortex-Max-Retries", "Total number of attempts, from 1 to 16."),
  header("X-Aicortex-Session", "The same as session in the body."),
  header("X-Aicortex-Priority", "batch lets interactive requests go first."),
  header("X-Aicortex-Private", "true: only local servers answer, or the request fails with 403.")
]

const parametersOf = (path: string, { isAnswer, parameters = [] }: Endpoint): ReadonlyArray<object> => [
  ...(path.includes("{id}") ? [named] : []),
  ...parameters,
  ...(isAnswer === true ? ofAnswers : []),
  ...requestHeaders
]

const receipts = {
  "X-Aicortex-Server": { description: "Which server answered.", schema: text },
  "X-Aicortex-Attempts": { description: "How many servers were tried.", schema: { type: "integer" } },
  "X-Aicortex-Session": { description: "The conversation that the answer is a part of, if any.", schema: text },
  "X-Aicortex-Reason": { description: "Why this one: the routing, a failover, or the cache.", schema: text }
}

const succeeded = ({ isAnswer, namesServer, returns, streams }: Endpoint): object => {
  const json = { "application/json": { schema: object } }
  return {
    description: "What was asked for.",
    ...(isAnswer === true || namesServer === true ? { headers: receipts } : {}),
    content:
      returns !== undefined
        ? { [returns]: { schema: text } }
        : streams === undefined
          ? json
          : { ...json, [streams]: { schema: text } }
  }
}

const requestBody = ({ body, example, isBinary }: Endpoint): object => {
  if (isBinary === true) return { requestBody: { required: true, content: { "application/octet-stream": {} } } }
  if (body === undefined) return {}
  const schema = body.schema()
  const json = { schema, example: example ?? exampleOf(schema) }
  return { requestBody: { required: true, content: { "application/json": json } } }
}

/** The groups of endpoints, in the order in which they are shown. The paths of each; any other is of the last group. */
const groups: ReadonlyArray<readonly [name: string, paths: RegExp]> = [
  ["OpenAI", /^\/v1\/(chat\/|completions|responses|embeddings|models(\/\{|$))/],
  ["Anthropic", /^\/v1\/messages/],
  ["Ollama", /^\/api\//],
  ["Conversations", /^\/v1\/sessions/],
  ["Fleet", /^\/(fleet|servers|requests|events|metrics|benchmarks)/],
  ["Models of this machine", /^\/(local|v1\/(hardware|engines|models\/(start|stop|pull|import)))/],
  ["Keys and usage", /^\/(keys|usage)/],
  ["Gateway", /^/]
]

const groupOf = (path: string): string => groups.find(([, paths]) => paths.test(path))?.[0] ?? "Gateway"

const tags = groups.map(([name]) => ({ name }))

const operation = ({ endpoint, method, path }: Listed): object => ({
  summary: endpoint.about,
  tags: [groupOf(path)],
  operationId: `${method.toLowerCase()}${path.replace(/[^a-z0-9]+/gi, "_")}`,
  parameters: parametersOf(path, endpoint),
  ...requestBody(endpoint),
  ...(endpoint.isPublic ? { security: [] } : {}),
  responses: {
    [endpoint.creates === true ? 201 : 200]: succeeded(endpoint),
    default: {
      description: "What is wrong.",
      content: { "application/json": { schema: problemOf(path) } }
    }
  }
})

/** An OpenAPI document. */
export interface Document {
  readonly tags: ReadonlyArray<{ readonly name: string }>
  readonly paths: { readonly [path: string]: { readonly [method: string]: object } }
}

/** The document of these endpoints. */
export const make = (endpoints: Endpoints): Document => {
  const paths: { [path: string]: { [method: string]: object } } = {}
  for (const one of listed(endpoints)) {
    const known = paths[one.path] ?? {}
    paths[one.path] = known
    known[one.method.toLowerCase()] = operation(one)
  }
  return { ...head, tags, paths }
}

const head = {
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
  }
}

const escape = (value: string): string =>
  value.replace(/[&<>]/g, (c) => (c === "&" ? "&amp;" : c === "<" ? "&lt;" : "&gt;"))

const row = ({ endpoint, method, path }: Listed): string =>
  `<tr><td>${method}</td><td><code>${escape(path)}</code></td><td>${escape(endpoint.about)}</td></tr>`

/** The same as a web page. */
export const page = (endpoints: Endpoints): string => `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>aicortex</title>
<style>body{font:16px/1.5 system-ui;margin:2rem auto;max-width:56rem;padding:0 1rem}td{padding:.2rem .8rem .2rem 0;vertical-align:top}pre{background:#f4f4f4;padding:1rem;overflow:auto}</style>
</head><body><h1>aicortex ${version}</h1>
<p>A fleet of language-model servers behind one server. Point any OpenAI client at <code>/v1</code>, and any Anthropic
or Ollama client at this address. The whole API is in <a href="/openapi.json">openapi.json</a>;
<a href="/#/api">the gateway's page</a> shows it with all fields, and sends requests.</p>
<pre>curl http://HOST:PORT/v1/chat/completions -H 'content-type: application/json' \\
  -d '{"model":"auto","messages":[{"role":"user","content":"Why is the sky blue?"}],"stream":true}'</pre>
<table>${listed(endpoints).map(row).join("\n")}</table>
<h2>Headers</h2>
<table>
<tr><td><code>X-Aicortex-Server</code></td><td>Which server answered.</td></tr>
<tr><td><code>X-Aicortex-Attempts</code></td><td>How many servers were tried.</td></tr>
<tr><td><code>X-Aicortex-Reason</code></td><td>Why this one: the routing, a failover, or the cache.</td></tr>
<tr><td><code>X-Aicortex-Priority</code></td><td><code>batch</code> lets interactive requests go first (in a request).</td></tr>
<tr><td><code>X-Aicortex-Private</code></td><td><code>true</code>: only local servers answer, or the request fails with 403 (in a request).</td></tr>
<tr><td><code>X-Aicortex-Session</code></td><td>The conversation to continue, or <code>new</code> (in a request); the conversation of the answer.</td></tr>
<tr><td><code>X-Request-Id</code></td><td>The request id in answers, errors and the log; yours is used if you send one.</td></tr>
<tr><td><code>traceparent</code>, <code>tracestate</code></td><td>The trace that a request is a part of; passed on to servers.</td></tr>
</table></body></html>
`
