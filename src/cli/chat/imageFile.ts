/** Images for questions. */
import { open, stat } from "node:fs/promises"
import { basename } from "node:path"
import * as Effect from "effect/Effect"
import type { ImagePart } from "../../Message.js"
import { CommandFailed } from "../errors.js"

/** A larger file is refused: servers do not take it either. */
const maxBytes = 20 * 1024 * 1024

/** The types that models can read, by the bytes with which a file begins. */
const mediaTypeOf = (bytes: Buffer): string | undefined => {
  const text = bytes.subarray(0, 12).toString("latin1")
  if (text.startsWith("\u0089PNG\r\n")) return "image/png"
  if (text.startsWith("\u00ff\u00d8\u00ff")) return "image/jpeg"
  if (/^GIF8[79]a/.test(text)) return "image/gif"
  return text.startsWith("RIFF") && text.slice(8) === "WEBP" ? "image/webp" : undefined
}

const load = async (file: string): Promise<Buffer> => {
  // Opening a pipe would wait for its writer.
  if (!(await stat(file)).isFile()) throw new Error("it is no regular file")
  const handle = await open(file)
  try {
    const { size } = await handle.stat()
    if (size > maxBytes) throw new Error(`it has ${size} bytes, and ${maxBytes} are allowed`)
    if (size === 0) throw new Error("it is empty")
    return await handle.readFile()
  } finally {
    await handle.close()
  }
}

const reasonOf = (cause: unknown): string => {
  if (!(cause instanceof Error)) return String(cause)
  return "code" in cause && cause.code === "ENOENT" ? "it does not exist" : cause.message
}

/** An image that a question may have: PNG, JPEG, GIF or WebP. */
export const read = Effect.fnUntraced(function* (file: string) {
  const fail = (reason: string) => new CommandFailed({ message: `the image ${file} cannot be used: ${reason}` })
  const bytes = yield* Effect.tryPromise({ try: () => load(file), catch: (cause) => fail(reasonOf(cause)) })
  const mediaType = mediaTypeOf(bytes)
  if (mediaType === undefined) return yield* fail("it is no PNG, JPEG, GIF or WebP")
  const part: ImagePart = { type: "image", data: bytes.toString("base64"), mediaType }
  return { name: basename(file), bytes: bytes.length, mediaType, part }
})
