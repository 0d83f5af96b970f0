/**
 * The text of an API key: `sk-aic-`, 12 characters that name the key, `-`, 256 random bits, and 6 characters that show a
 * mistyped or invented key without a look at the store.
 */
import { createHash, randomBytes } from "node:crypto"

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

const idLength = 12
/** So many characters hold 256 bits. */
const randomLength = 43
const checkLength = 6

const form = new RegExp(`^sk-aic-([0-9A-Za-z]{${idLength}})-[0-9A-Za-z]{${randomLength + checkLength}}$`)

/** Bytes as a number in base 62, with so many digits. */
const base62 = (bytes: Buffer, length: number): string => {
  let rest = BigInt(`0x${bytes.toString("hex")}`)
  let text = ""
  for (let i = 0; i < length; i++) {
    text = `${alphabet[Number(rest % 62n)]}${text}`
    rest /= 62n
  }
  return text
}

const checkOf = (text: string): string =>
  base62(createHash("sha256").update(`check:${text}`).digest().subarray(0, 8), checkLength)

/** A new key, and the id that is in it. */
export const make = (): { readonly id: string; readonly secret: string } => {
  // A few more bits than the characters hold, so that each is as likely as any other.
  const id = base62(randomBytes(16), idLength)
  return { id, secret: ofId(id) }
}

/** Another key with this id. */
export const ofId = (id: string): string => {
  const text = `sk-aic-${id}-${base62(randomBytes(32), randomLength)}`
  return `${text}${checkOf(text)}`
}

/** The id in a key; `undefined` where the text is none that was made here. */
export const idOf = (secret: string): string | undefined => {
  const id = form.exec(secret)?.[1]
  return id !== undefined && checkOf(secret.slice(0, -checkLength)) === secret.slice(-checkLength) ? id : undefined
}

/** What is stored of a key. */
export const hashOf = (secret: string): string => createHash("sha256").update(secret).digest("hex")
