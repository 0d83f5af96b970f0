/**
 * `POST /v1/responses/compact`: compacts a conversation into items to continue from. User messages stay as they are;
 * everything else becomes a summary written by the model, in an item of type `compaction`, which `/v1/responses`
 * accepts.
 */
import * as Message from "../../../../Message.js"
import type { GatewayContext } from "../../../GatewayContext.js"
import type * as BodyFields from "../../../http/body.js"
import * as Id from "../../../http/id.js"
import type { RequestContext } from "../../../http/RequestContext.js"
import type { Codec, CompletedAnswer } from "../../../pipeline/codec.js"
import { dispatch } from "../../../pipeline/dispatch.js"
import * as ResponsesCodec from "./codec.js"
import * as Items from "./items.js"
import type * as Request from "./request.js"

const order =
  "Summarize the conversation so far for a reader who continues it and knows nothing else of it: what was asked for, " +
  "what was done and found out, with names, paths, figures and decisions, and what is still to be done. Write only the summary."

const isUsers = (item: BodyFields.Fields): boolean =>
  (item["type"] ?? "message") === "message" && item["role"] === "user"

const codec = (request: Request.ResponseRequest, earlier: ReadonlyArray<BodyFields.Fields>): Codec => {
  const written = ResponsesCodec.codec(request.echo as ResponsesCodec.Echo, undefined, request.tools)
  return {
    ...written,
    complete: (_: string, [result]: ReadonlyArray<CompletedAnswer>) =>
      JSON.stringify({
        id: Id.make("resp_"),
        object: "response.compaction",
        created_at: Math.floor(Date.now() / 1000),
        output: [
          ...Items.listed([...earlier, ...request.items].filter(isUsers)),
          { id: Id.make("cmp_"), type: "compaction", encrypted_content: Items.compacted(result?.text ?? "") }
        ],
        usage: ResponsesCodec.usage(result?.usage ?? {})
      })
  }
}

export const answer = (
  gateway: GatewayContext,
  context: RequestContext,
  body: Request.ResponseRequest,
  earlier: ReadonlyArray<BodyFields.Fields>
): Promise<void> => {
  const messages = [...body.request.messages, Message.user(order)]
  const request = { ...body.request, messages, tools: [], toolChoice: undefined, format: "text" as const }
  const whole = { ...body, stream: false, session: undefined, request }
  return dispatch(gateway, context, whole, codec(body, earlier))
}
