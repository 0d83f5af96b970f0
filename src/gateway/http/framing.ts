/** Writes as one part what Node would write as several: that costs more than all else that is done for a token. */
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

/** Whether nothing replaces what a response is written with, as compression does. */
const isPlain = ({ end, write }: ServerResponse): boolean =>
  write === ServerResponse.prototype.write && end === ServerResponse.prototype.end

/**
 * Whether the chunks of this response can be framed here: Node writes each as four parts. Trailers are left to Node.
 */
export const canFrame = (
  { httpVersion, method }: IncomingMessage,
  response: ServerResponse,
  { trailer }: { readonly [name: string]: string | number }
): boolean => httpVersion === "1.1" && method !== "HEAD" && trailer === undefined && isPlain(response)

/** Ends a response with `text`, after which Node would write an empty part. Its length is known, or it is framed. */
export const endWith = (response: ServerResponse, text: string): void => {
  const { socket } = response
  if (socket === null || socket.writableCorked > 0 || text === "" || !isPlain(response)) {
    response.end(text)
    return
  }
  // Else `write` waits for the end of this turn, for others to join it.
  socket.cork()
  response.write(text)
  socket.uncork()
  response.end()
}
