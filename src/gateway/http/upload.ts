/** Streams request bodies of any length to a server. */
import type { Socket } from "node:net"
import type { RequestContext } from "./RequestContext.js"

const underWay = new WeakSet<Socket>()

/** Whether the request has such a body: the request timeout does not apply to it. */
export const isUnderWay = (socket: Socket): boolean => underWay.has(socket)

/**
 * The body of a request in parts, read no faster than they are taken. `maxBody` is the longest body that the client was told
 * to send without asking; `stalled` is called when the client sends nothing for as long as a client may.
 */
export const parts = (context: RequestContext, maxBody: number, stalled: () => void): AsyncIterable<Uint8Array> => {
  const { request, response } = context
  const { headers, socket } = request
  if (headers.expect !== undefined && Number(headers["content-length"] ?? 0) > maxBody) response.writeContinue()
  underWay.add(socket)
  const over = () => {
    underWay.delete(socket)
    context.reading = undefined
  }
  request.once("end", over)
  request.once("close", over)
  // Data is already buffered, so the server is the one that stalls.
  context.reading = {
    over: false,
    stopped: () => {
      if (request.readableLength === 0) stalled()
    }
  }
  return request.iterator({ destroyOnReturn: false })
}

/** Sends a response without a body, and does not wait for the rest of a request that is no longer needed. */
export const answer = (context: RequestContext, status: number): void => {
  const { complete } = context.request
  context.send(status, "application/json; charset=utf-8", "", complete ? {} : { connection: "close" })
  if (!complete) context.drainRequest()
}
