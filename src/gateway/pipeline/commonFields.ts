/** The fields that several endpoints have: the model, this gateway's own ones, and those for some servers only. */
import * as JSONSchema from "effect/JSONSchema"
import type * as Schema from "effect/Schema"
import { type ChatRequest, type CheckedOptions, Routing, ThinkLevel } from "../../ChatRequest.js"
import * as ExtraParameters from "../../internal/extraParameters.js"
import { inlineRefs } from "../../internal/inlineRefs.js"
import { isKeepAlive } from "../../internal/optionSchemas.js"
import * as BodyFields from "../http/body.js"
import * as Body from "../http/bodyDeclaration.js"
import { reject } from "../http/errorResponse.js"
import * as FieldPolicy from "../http/fieldPolicy.js"
import { type GatewayRequest, toolArguments as readArguments } from "./gatewayRequest.js"
import { namedSession } from "./namedSession.js"

/** Maximum length of a model name, in characters. */
const longestName = 1_000

/** A field with the name of a model. */
export const modelName = (doc: string): Body.Field<string | undefined> =>
  Body.custom({ type: "string", maxLength: longestName, description: doc }, (fields, name, at) => {
    const value = BodyFields.text(fields, name, at)
    if (value !== undefined && value.length > longestName) {
      reject(at, `must not be longer than ${longestName} characters`)
    }
    return value
  })

/** The model of a request. */
export const model = modelName("A model, an alias, provider:model, or auto. Default: the default model.")

const ttl = Body.struct({ ttl: Body.number(1, undefined, { doc: "In milliseconds." }) }, { path: "cache", open: true })

const cache = Body.custom(
  () => ({
    ...Body.anyOf({ type: "boolean" }, ttl.schema()),
    description: "Whether a cached answer may be returned, and this one is cached."
  }),
  (fields, name, at): CheckedOptions["cache"] => {
    const value = fields[name]
    if (typeof value === "boolean" || value === undefined) return value
    if (value === null) return undefined
    const lifetime = ttl.read.ttl(BodyFields.object(fields, name, at) ?? {})
    return lifetime === undefined ? true : { ttl: lifetime }
  }
)

/** Extensions of this gateway. */
export const extensions = {
  session: Body.text({ doc: "A conversation of /v1/sessions to continue, or new: begins one." }),
  session_id: Body.text({ doc: "The same as session." }),
  routing: Body.oneOf(Routing.literals, { doc: "Which server is tried first." }),
  cache
}

/** How long Ollama keeps the model loaded: seconds, or a duration. */
const keepAlive = Body.custom(
  {
    ...Body.anyOf({ type: "number" }, { type: "string" }),
    description: "For how long Ollama keeps the model: seconds, or a duration such as 5m."
  },
  (fields, name, at): number | string | undefined => {
    const value = fields[name]
    if (value === undefined || value === null) return undefined
    if ((typeof value === "number" || typeof value === "string") && isKeepAlive(value)) return value
    return reject(at, "must be a number of seconds or a duration such as '5m'")
  }
)

/** What is done with the model, on Ollama's servers. */
export const ollamaOnly = {
  keep_alive: keepAlive,
  options: Body.json({ doc: "Ollama's own options, for Ollama's servers." })
}

/** The context's length beside the options. */
export const contextLength = { num_ctx: Body.whole(1, undefined, { doc: "The same as options.num_ctx." }) }

/** How much a model may think. */
export const thinkLevels = ThinkLevel.literals

/** Whether, or how much, the model thinks. */
export const think = Body.custom(
  Body.anyOf({ type: "boolean" }, { enum: thinkLevels }),
  (fields, name, at): ChatRequest["think"] => {
    const value = fields[name]
    return typeof value === "boolean" ? value : BodyFields.oneOf(fields, name, thinkLevels, at)
  }
)

/** The conversation; its messages are decoded where they are used. */
export const messages = (items: Body.Declared, doc?: string) =>
  Body.required(
    Body.custom(
      () => ({
        type: "array",
        items: items.schema(),
        minItems: 1,
        ...(doc === undefined ? {} : { description: doc })
      }),
      (fields, name, at) => {
        const all = BodyFields.list(fields, name, at)
        if (all?.length === 0) reject(at, "must hold at least one message")
        return all
      }
    )
  )

/** The arguments of a tool's call. */
export const toolArguments = Body.custom(
  { description: "An object, or its JSON; anything else is put into an object." },
  (fields, name, at) => readArguments(fields[name], at)
)

const toolNames = /^[a-zA-Z0-9_.:-]{1,128}$/

/** The name of a tool. */
export const toolName = Body.required(
  Body.custom({ type: "string", pattern: toolNames.source }, (fields, name, at) => {
    const value = BodyFields.text(fields, name, at)
    if (value !== undefined && !toolNames.test(value))
      reject(at, "must be 1 to 128 letters, digits, dots, colons, dashes or underscores")
    return value
  })
)

const cached = "the server that has it in its cache goes first."

/** What names a conversation (see `conversationId`). Anything else about it makes no difference to an answer. */
export const conversation = {
  prompt_cache_key: Body.text({ doc: `Names the conversation: ${cached}` }),
  metadata: Body.json({
    doc: `session_id in it continues a conversation of /v1/sessions. Any other session_id, or user_id, names a conversation: ${cached}`
  }),
  user: Body.text({ doc: `Names the conversation where nothing else does: ${cached}` })
}

/** Fields that clients send to every API and that make no difference to an answer here. */
export const harmless: { readonly [name: string]: Body.Field<undefined> } = Object.fromEntries(
  [...FieldPolicy.harmlessFields].map((name) => [name, Body.ignored])
)

// =============================================================================
// Parameters that only some servers have
// =============================================================================

const docs: { readonly [name: string]: string } = {
  chat_template_kwargs: "enable_thinking holds on every server, the others where the template has them."
}
const someServers =
  "For servers that support it: elsewhere optional tuning parameters are ignored, and listed in a header."

/** Parameters that only some servers support: see `ChatRequest.Extra`. */
export const extraFields: { readonly [name: string]: Body.Field<unknown> } = Object.fromEntries(
  Object.entries(ExtraParameters.fields).map(([name, schema]) => [
    name,
    Body.custom(
      () => ({
        ...inlineRefs({ ...JSONSchema.make(schema as Schema.Schema.AnyNoContext) }),
        description: docs[name] ?? someServers
      }),
      (fields, name, at) => {
        const value = fields[name]
        if (value === undefined || value === null) return undefined
        if (!ExtraParameters.fits(name, value)) reject(at, "is of the wrong type")
        return typeof value === "object" ? BodyFields.shallow(value as BodyFields.Fields, at) : value
      }
    )
  ])
)

const extraReaders = new Map(Object.entries(Body.struct(extraFields).read))

/** Reads those parameters. Other names are not checked. */
export const extra = (body: BodyFields.Fields): ChatRequest["extra"] => {
  let found: { [name: string]: unknown } | undefined
  for (const name in body) {
    const value = extraReaders.get(name)?.(body)
    if (value === undefined) continue
    found ??= {}
    found[name] = value
  }
  return found
}

// =============================================================================
// Reading them
// =============================================================================

/** The readers of these fields. */
export const { read } = Body.struct({ model, think, ...extensions, ...ollamaOnly, ...contextLength })

/** Extensions that every endpoint accepts. */
export const extras = (body: BodyFields.Fields): Pick<GatewayRequest, "session" | "routing" | "cache"> => ({
  session: namedSession(body, read.session(body), read.session_id(body)),
  routing: read.routing(body),
  cache: read.cache(body)
})

/** Ollama's options; `num_ctx` may also stand outside them. */
export const options = (body: BodyFields.Fields): ChatRequest["options"] => {
  const given = read.options(body)
  const context = read.num_ctx(body)
  return context === undefined ? given : { ...given, num_ctx: context }
}
