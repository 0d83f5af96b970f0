/** Responses whose chunks are framed by us. */
import { type IncomingMessage, ServerResponse } from "node:http"

/** `text` as a chunk of HTTP's chunked coding. */
export const chunkOf = (text: string): string => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`

const sharedChunks = new WeakMap<Buffer, Buffer>()

/** The same of text that many responses are sent. */
export const sharedChunkOf = (text: Buffer): Buffer => {
  let chunk = sharedChunks.get(text)
  if (chunk === undefined) {
    chunk = Buffer.concat([Buffer.from(`${text.length.toString(16)}\r\n`), text, Buffer.from("\r\n")])
    sharedChunks.set(text, chunk)
  }
  return chunk
}

/** What ends the body. */
export const lastChunk = "0\r\n\r\n"

/**
 * Whether the chunks of this response can be framed here: Node writes each as four parts, which costs more than all else
 * that is done for a token. Not where something stands between (it replaces `write`), and trailers are left to Node.
 */
export const canFrame = (
  { httpVersion, method }: IncomingMessage,
  response: ServerResponse,
  { trailer }: { readonly [name: string]: string | number }
): boolean =>
  httpVersion === "1.1" &&
  method !== "HEAD" &&
  trailer === undefined &&
  response.write === ServerResponse.prototype.write &&
  response.end === ServerResponse.prototype.end
