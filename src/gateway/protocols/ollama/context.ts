/**
 * The `context` of `/api/generate`: a conversation as numbers, which the next prompt continues.
 *
 * Ollama returns tokens of its model, which no other kind of server understands. These numbers hold the compressed
 * text, three bytes each: any gateway can decode them, and any server can continue.
 */
import { deflateRawSync, inflateRawSync } from "node:zlib"
import * as Message from "../../../Message.js"
import * as Validation from "./validation.js"

/** The first number of each context: larger than any token, to distinguish it from a server's own context. */
const mark = 0xacc0de

/** Maximum length of a conversation, in bytes. */
const maxBytes = 16 * 1024 * 1024

const roles = ["system", "user", "assistant"] as const

/** Encodes a conversation as numbers. Images are omitted. */
export const encode = (messages: ReadonlyArray<Message.Message>, answer: string): ReadonlyArray<number> => {
  const turns: Array<readonly [role: number, text: string]> = []
  for (const message of messages) {
    const role = roles.indexOf(message.role as (typeof roles)[number])
    if (role !== -1) turns.push([role, Message.text(message)])
  }
  turns.push([2, answer])
  const bytes = deflateRawSync(JSON.stringify(turns))
  const numbers = [mark, bytes.length]
  for (let i = 0; i < bytes.length; i += 3) {
    numbers.push(((bytes[i] ?? 0) << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0))
  }
  return numbers
}

const isTurn = (value: unknown): value is readonly [role: 0 | 1 | 2, text: string] =>
  Array.isArray(value) && (value[0] === 0 || value[0] === 1 || value[0] === 2) && typeof value[1] === "string"

const read = (numbers: ReadonlyArray<number>): unknown => {
  const [first, length = 0] = numbers
  if (first !== mark || length < 0 || Math.ceil(length / 3) !== numbers.length - 2) return undefined
  const bytes = Buffer.alloc((numbers.length - 2) * 3)
  for (let i = 2; i < numbers.length; i++) {
    const number = numbers[i] ?? -1
    if (number < 0 || number > 0xffffff) return undefined
    bytes.writeUIntBE(number, (i - 2) * 3, 3)
  }
  try {
    return JSON.parse(inflateRawSync(bytes.subarray(0, length), { maxOutputLength: maxBytes }).toString("utf8"))
  } catch {
    return undefined
  }
}

/** Decodes a conversation from numbers. Rejects numbers that are not from a gateway. */
export const decode = (numbers: ReadonlyArray<number>): ReadonlyArray<Message.Message> => {
  if (numbers.length === 0) return []
  const turns = read(numbers)
  if (!Array.isArray(turns) || !turns.every(isTurn)) {
    Validation.refuse(
      400,
      "'context' is not of this gateway: a server's own tokens are understood by that server alone; use /api/chat",
      "unsupported_parameter",
      "context"
    )
    return []
  }
  return turns.map(([role, text]) =>
    role === 0 ? Message.system(text) : role === 1 ? Message.user(text) : Message.assistant(text)
  )
}
