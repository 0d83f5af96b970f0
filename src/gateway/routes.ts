import type { IncomingHttpHeaders } from "node:http"
import { addCortexRoutes } from "./cortexRoutes.js"
import type * as BodyFields from "./http/body.js"
import type * as FieldPolicy from "./http/fieldPolicy.js"
import type { ApiProtocol } from "./http/RequestContext.js"
import * as OpenApi from "./openapi/document.js"
import type { Codec } from "./pipeline/codec.js"
import { dispatch } from "./pipeline/dispatch.js"
import * as Embeddings from "./pipeline/embeddings.js"
import type { GatewayRequest } from "./pipeline/gatewayRequest.js"
import * as ModelSelection from "./pipeline/modelSelection.js"
import * as Sessions from "./protocols/aicortex/sessions.js"
import * as StoredSessions from "./protocols/aicortex/storedSessions.js"
import * as Messages from "./protocols/anthropic/handlers.js"
import * as AnthropicModels from "./protocols/anthropic/models.js"
import * as MessagesRequest from "./protocols/anthropic/request.js"
import * as Blobs from "./protocols/ollama/blobs.js"
import * as OllamaCodec from "./protocols/ollama/codec.js"
import * as DebugRender from "./protocols/ollama/debugRender.js"
import * as Listings from "./protocols/ollama/listings.js"
import * as Manage from "./protocols/ollama/manage.js"
import * as OllamaRequest from "./protocols/ollama/request.js"
import * as Thinking from "./protocols/ollama/thinking.js"
import * as Chat from "./protocols/openai/chat.js"
import * as Completions from "./protocols/openai/completions.js"
import * as OpenAIModels from "./protocols/openai/models.js"
import * as Responses from "./protocols/openai/responses/handlers.js"
import * as ResponsesRequest from "./protocols/openai/responses/request.js"
import { addRoute, type Handler } from "./routeTable.js"

export { document, metricsRoute } from "./ownRoutes.js"
export { type Route, routes } from "./routeTable.js"

/** The API of a path. Anthropic clients send their API version also on paths that OpenAI has. */
export const protocolOf = (path: string, headers?: IncomingHttpHeaders): ApiProtocol => {
  if (path.startsWith("/api")) return "ollama"
  if (path.startsWith("/v1/messages") || headers?.["anthropic-version"] !== undefined) return "anthropic"
  return "openai"
}

const dispatched =
  <A extends GatewayRequest>(
    decode: (body: BodyFields.Fields, ignored: FieldPolicy.IgnoredFields) => A,
    codec: (gatewayRequest: A) => Codec
  ): Handler =>
  (gateway, context, body) => {
    const started = performance.now()
    const answer = (gatewayRequest: A) => {
      const written = codec(gatewayRequest)
      context.ownTime += performance.now() - started
      return dispatch(gateway, context, gatewayRequest, written)
    }
    const joined = Sessions.joined(gateway, context.decode(decode, body), context)
    return joined instanceof Promise ? joined.then(answer) : answer(joined)
  }

const ollamaAsk =
  (decode: (body: BodyFields.Fields) => OllamaRequest.OllamaGatewayRequest, generates: boolean): Handler =>
  async (gateway, context, body) => {
    const joined = Sessions.joined(gateway, decode(body), context)
    const gatewayRequest = joined instanceof Promise ? await joined : joined
    context.ignore(gatewayRequest.ignored)
    context.record.model = gatewayRequest.model
    if (gatewayRequest.request.messages.length === 0) return Manage.load(gateway, context, gatewayRequest, generates)
    if (gatewayRequest.renderOnly) return DebugRender.renderOnly(gateway, context, gatewayRequest, body, generates)
    const name = gatewayRequest.model ?? ModelSelection.defaultModel(gateway)
    const codec = OllamaCodec.codec(name, generates, gatewayRequest.request)
    return gatewayRequest.request.think === false
      ? Thinking.modelsWithoutThinking(gateway, context, gatewayRequest).then((fitting) =>
          dispatch(gateway, context, fitting, codec)
        )
      : dispatch(gateway, context, gatewayRequest, codec)
  }

/** Anthropic clients look for the request id in a header without `x-`. */
const anthropic =
  (handler: Handler): Handler =>
  (gateway, context, body, rest) => {
    context.headers["request-id"] = context.id
    return handler(gateway, context, body, rest)
  }

/** Two APIs share this path. */
const byProtocol =
  (openai: Handler, other: Handler): Handler =>
  (gateway, context, body, rest) =>
    protocolOf("", context.request.headers) === "anthropic"
      ? other(gateway, context, body, rest)
      : openai(gateway, context, body, rest)

// =============================================================================
// OpenAI, Anthropic, and this gateway's own
// =============================================================================

const answersEvents = { isAnswer: true, streams: "text/event-stream" } as const
/** What examples of bodies ask. */
const asked = { model: "auto", messages: [{ role: "user", content: "Why is the sky blue?" }] }

const answersLines = { isAnswer: true, streams: "application/x-ndjson" } as const

addRoute(
  "POST",
  "/v1/chat/completions",
  "Creates a chat completion, complete or streamed (OpenAI)",
  dispatched(Chat.decode, Chat.codec),
  { body: Chat.body, example: { ...asked, max_tokens: 200 }, ...answersEvents }
)
addRoute(
  "POST",
  "/v1/completions",
  "Completes a text, or fills in the middle (OpenAI)",
  dispatched(Completions.decode, Completions.codec),
  { body: Completions.body, example: { model: "auto", prompt: "The sky is", max_tokens: 50 }, ...answersEvents }
)
addRoute("POST", "/v1/responses", "Creates a response, complete or streamed (OpenAI)", Responses.create, {
  body: ResponsesRequest.body,
  example: { model: "auto", input: "Why is the sky blue?" },
  ...answersEvents
})
addRoute("POST", "/v1/responses/compact", "Compacts a conversation (OpenAI)", Responses.compact, {
  body: ResponsesRequest.compactBody,
  example: { model: "auto", input: "Why is the sky blue?" },
  isAnswer: true
})
addRoute("GET", "/v1/responses/", "A stored response (OpenAI)", (gateway, context, _, id) =>
  Responses.read(gateway, context, id)
)
addRoute("DELETE", "/v1/responses/", "Deletes a response (OpenAI)", (gateway, context, _, id) =>
  Responses.remove(gateway, context, id)
)
addRoute(
  "GET",
  "/v1/responses/{id}/input_items",
  "The input items of a response (OpenAI)",
  (gateway, context, _, id) => Responses.inputItems(gateway, context, id),
  {
    parameters: [
      OpenApi.query("limit", "Maximum number of items, from 1 to 100. Default: 20."),
      OpenApi.query("order", "asc or desc. Default: desc, the latest first."),
      OpenApi.query("after", "The list starts after the item with this id.")
    ]
  }
)
addRoute("POST", "/v1/embeddings", "Embeddings of texts (OpenAI)", Embeddings.openAI, {
  body: Embeddings.openAIBody,
  example: { model: "auto", input: ["Why is the sky blue?"] },
  namesServer: true
})
addRoute("POST", "/v1/messages", "Creates a message, complete or streamed (Anthropic)", anthropic(Messages.create), {
  body: MessagesRequest.body,
  example: { ...asked, max_tokens: 200 },
  ...answersEvents
})
addRoute(
  "POST",
  "/v1/messages/count_tokens",
  "Estimates the tokens of a prompt (Anthropic)",
  anthropic(Messages.countTokens),
  { body: MessagesRequest.countBody, example: asked }
)
const anthropicVersion = OpenApi.header("anthropic-version", "Has the answer in the form of Anthropic's API.")
addRoute(
  "GET",
  "/v1/models",
  "The models of the fleet (OpenAI; with anthropic-version: Anthropic)",
  byProtocol(OpenAIModels.list, anthropic(AnthropicModels.list)),
  {
    parameters: [
      anthropicVersion,
      OpenApi.query("limit", "With anthropic-version: maximum number of models, from 1 to 1,000. Default: 1,000."),
      OpenApi.query("after_id", "With anthropic-version: the page starts after this model."),
      OpenApi.query("before_id", "With anthropic-version: the page ends before this model.")
    ]
  }
)
addRoute(
  "GET",
  "/v1/models/",
  "One model (OpenAI; with anthropic-version: Anthropic)",
  byProtocol(
    (gateway, context, _, id) => OpenAIModels.one(gateway, context, id),
    anthropic((gateway, context, _, id) => AnthropicModels.one(gateway, context, id))
  ),
  { parameters: [anthropicVersion] }
)
addRoute("POST", "/v1/sessions", "Creates a conversation", Sessions.create, { creates: true })
const sessionFilters = [
  OpenApi.query("limit", "Maximum number, from 1 to 1,000. Default: 50."),
  OpenApi.query("cursor", "Where the list continues: `next` of the previous page."),
  OpenApi.query("title", "Only conversations whose title has this text."),
  OpenApi.query("metadata", 'Only those with these members, as JSON: {"project":"x"}.'),
  OpenApi.query("since", "Only those used since then, such as 2026-01-31T12:00:00Z."),
  OpenApi.query("until", "Only those last used before then.")
]
addRoute("GET", "/v1/sessions", "The most recently used conversations, at most 50", StoredSessions.list, {
  parameters: [...sessionFilters, OpenApi.query("text", "Only those in which these words were said within one turn.")]
})
addRoute("GET", "/v1/sessions/search", "The turns of conversations that have some words", StoredSessions.search, {
  parameters: [OpenApi.query("q", "The words; case does not matter."), ...sessionFilters]
})
addRoute("GET", "/v1/sessions/", "A conversation with its messages", (gateway, context, _, id) =>
  StoredSessions.read(gateway, context, id)
)
addRoute("PATCH", "/v1/sessions/", "Changes the title or the metadata of a conversation", StoredSessions.update, {
  body: StoredSessions.updateBody
})
addRoute("POST", "/v1/sessions/{id}/copy", "Copies a conversation", StoredSessions.copy, {
  body: StoredSessions.copyBody,
  creates: true
})
addRoute(
  "GET",
  "/v1/sessions/{id}/export",
  "A conversation as JSON that can be imported, or as Markdown",
  (gateway, context, _, id) => StoredSessions.exportOne(gateway, context, id),
  { parameters: [OpenApi.query("format", "json or markdown. Default: json.")] }
)
addRoute("DELETE", "/v1/sessions/", "Deletes a conversation", (gateway, context, _, id) =>
  Sessions.remove(gateway, context, id)
)

addCortexRoutes()

// =============================================================================
// Ollama
// =============================================================================

addRoute("POST", "/api/chat", "A chat answer, streamed or complete (Ollama)", ollamaAsk(OllamaRequest.chat, false), {
  body: OllamaRequest.chatBody,
  example: { ...asked, stream: false },
  ...answersLines
})
addRoute(
  "POST",
  "/api/generate",
  "An answer to a prompt, or the completion of a text, streamed or complete (Ollama)",
  ollamaAsk(OllamaRequest.generate, true),
  {
    body: OllamaRequest.generateBody,
    example: { model: "auto", prompt: "Why is the sky blue?", stream: false },
    ...answersLines
  }
)
addRoute("POST", "/api/embed", "Embeddings of texts (Ollama)", Embeddings.ollama, {
  body: Embeddings.ollamaBody,
  example: { model: "auto", input: ["Why is the sky blue?"] },
  namesServer: true
})
addRoute("POST", "/api/embeddings", "The embedding of one text (Ollama, older form)", Embeddings.legacy, {
  body: Embeddings.legacyBody,
  example: { model: "auto", prompt: "Why is the sky blue?" },
  namesServer: true
})
addRoute("GET", "/api/tags", "The models of all servers (Ollama)", Listings.tags)
addRoute("GET", "/api/ps", "The loaded models and their servers (Ollama)", Listings.ps)
addRoute("GET", "/api/version", "The version of the API (Ollama)", Listings.versions)
addRoute("POST", "/api/show", "Information about a model (Ollama)", Listings.show, { body: Listings.showBody })

const changesModels = {
  admin: true,
  managesModels: true,
  parameters: [
    OpenApi.query("server", "The same as server in the body."),
    OpenApi.header("X-Aicortex-Target", "The same as server in the body.")
  ]
} as const
const changesLong = { ...changesModels, streams: "application/x-ndjson" } as const

addRoute(
  "POST",
  "/api/pull",
  "Downloads a model, on the server with the most room unless one is named (Ollama)",
  Manage.pull,
  { body: Manage.pullBody, ...changesLong }
)
addRoute("POST", "/api/create", "Creates a model from another one on its server (Ollama)", Manage.create, {
  body: Manage.createBody,
  ...changesLong
})
addRoute(
  "HEAD",
  "/api/blobs/",
  "Whether a server has a file that a model can be made of (Ollama)",
  (gateway, context, _, digest) => Blobs.has(gateway, context, digest),
  changesModels
)
addRoute(
  "POST",
  "/api/blobs/",
  "Sends such a file to a server; only the size of its disk bounds it (Ollama)",
  (gateway, context, _, digest) => Blobs.upload(gateway, context, digest),
  {
    isBinary: true,
    creates: true,
    ...changesModels
  }
)
addRoute("POST", "/api/push", "Uploads a model from a server that has it (Ollama)", Manage.push, {
  body: Manage.pushBody,
  ...changesLong
})
addRoute("POST", "/api/copy", "Copies a model to another name on every server that has it (Ollama)", Manage.copy, {
  body: Manage.copyBody,
  ...changesModels
})
addRoute("DELETE", "/api/delete", "Deletes a model on every server that has it (Ollama)", Manage.remove, {
  body: Manage.deleteBody,
  ...changesModels
})
