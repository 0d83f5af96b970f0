/** What messages of Anthropic's Messages API, and the blocks of their contents, may hold. */
import * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import { reject } from "../../http/errorResponse.js"
import * as CommonFields from "../../pipeline/commonFields.js"

/** Clients mark the end of what a server is to cache in any block; here every prompt is cached. */
const marked = { cache_control: Body.unread }

const webAddress = /^https?:\/\//i

const base64 = Body.struct({
  media_type: Body.needed(Body.oneOf(["image/jpeg", "image/png", "image/gif", "image/webp"])),
  data: Body.required(
    Body.custom({ type: "string", minLength: 1 }, (fields, name, at) => {
      const data = fields[name]
      if (data === undefined || data === null) return undefined
      if (typeof data !== "string" || data === "" || !/^[A-Za-z0-9+/=_-]+$/.test(data)) reject(at, "must be base64")
      return data as string
    })
  )
})

/** Where an image comes from. */
export const imageSource = Body.variants("type", {
  base64,
  url: Body.struct({
    url: Body.required(
      Body.custom({ type: "string", pattern: "^[Hh][Tt][Tt][Pp][Ss]?://" }, (fields, name, at) => {
        const url = fields[name]
        if (url === undefined || url === null) return undefined
        if (typeof url !== "string" || !webAddress.test(url)) reject(at, "must be an http(s) address")
        return url as string
      })
    )
  })
})

const text = Body.struct({ text: Body.required(Body.text()), citations: Body.unread, ...marked })
const image = Body.struct({ source: Body.needed(Body.object({}, imageSource)), ...marked })

/** Contents that are text. */
export const texts = Body.variants("type", { text })

/** A document's text. */
export const documentSource = Body.variants("type", {
  text: Body.struct({ media_type: Body.oneOf(["text/plain"]), data: Body.required(Body.text()) }),
  content: Body.struct({ content: Body.content(Body.variants("type", { text, image }), "blocks") })
})

/** Whether the answer is to cite a document. */
export const citations = Body.struct(
  {
    enabled: Body.custom({ const: false, description: "No server supports citations." }, (fields, name, at) => {
      if (BodyFields.flag(fields, name, at) === true) BodyFields.unsupported(at, "no server supports citations")
    })
  },
  { open: true }
)

const document = Body.struct({
  source: Body.needed(Body.object({}, documentSource)),
  title: Body.text(),
  context: Body.text(),
  citations: Body.object({}, citations),
  ...marked
})
const searchResult = Body.struct({
  title: Body.text(),
  source: Body.text(),
  content: Body.content(texts, "blocks"),
  citations: Body.unread,
  ...marked
})
/** A tool that a search has found. */
export const toolReference = Body.struct({
  tool_name: Body.required(Body.text({ doc: "A tool that can be called from now on." })),
  ...marked
})
const toolResult = Body.struct({
  tool_use_id: Body.required(Body.text()),
  content: Body.content(
    Body.variants("type", { text, image, document, search_result: searchResult, tool_reference: toolReference }),
    "blocks"
  ),
  is_error: Body.flag(),
  ...marked
})

/** The blocks of a user's message. */
export const ofUser = Body.variants("type", {
  text,
  image,
  document,
  search_result: searchResult,
  tool_result: toolResult,
  container_upload: Body.struct({ ...marked })
})

/** Calls of tools that another provider ran, and their results. */
export const ofServers = /^(server|mcp)_tool_use$|_tool_result$|^container_upload$/

/** The blocks of an answer. Those of tools that other servers ran are left out, and named. */
export const ofAssistant = Body.variants(
  "type",
  {
    text,
    thinking: Body.struct({ thinking: Body.text(), signature: Body.unread, ...marked }),
    redacted_thinking: Body.struct({ data: Body.unread, ...marked }),
    compaction: Body.struct({ content: Body.text(), ...marked }),
    tool_use: Body.struct({
      id: Body.required(Body.text()),
      name: Body.required(Body.text()),
      input: CommonFields.toolArguments,
      caller: Body.unread,
      ...marked
    })
  },
  { others: ofServers }
)

/** The fields of all blocks. */
export const names: ReadonlySet<string> = new Set([...ofUser.names, ...ofAssistant.names, ...toolReference.names])

const extra = { id: Body.unread, type: Body.unread, ...marked }

/** The messages of a conversation, by their roles. */
export const messages = Body.variants("role", {
  user: Body.struct({ content: Body.content(ofUser, "blocks"), ...extra }),
  assistant: Body.struct({ content: Body.content(ofAssistant, "blocks"), ...extra }),
  system: Body.struct({ content: Body.content(texts, "blocks"), ...extra })
})
