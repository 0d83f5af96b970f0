/** The content of a registry that comes as one text: any form that `aicortex registry import` reads. */
import * as Either from "effect/Either"
import * as Catalogue from "./catalogue.js"
import { isFamily } from "./pipeline/record.js"

/** Where a document comes from. */
export interface DocumentPlace {
  /** What it is called in warnings. */
  readonly name: string
  /** Its address or path: the last part may be the name of a family. */
  readonly path: string
}

const knownFamilies = new Set(["deepseek", "gemma", "llama", "mistral", "others", "qwen"])

/** The family that a file's name refers to: `…/qwen.json`. */
const familyOf = (path: string): string | undefined => {
  const name = /([^/\\?#]+)\.json(?:[?#].*)?$/i.exec(path)?.[1]?.toLowerCase()
  return name !== undefined && isFamily(name) && knownFamilies.has(name) ? name : undefined
}

/** An address that says so itself: any other word may be the text of an error. */
const address = /^(https?:\/\/\S+|\[?[\w.:-]+\]?:\d+)$/i

/** A list of addresses, one in each line; lines that begin with `#` are comments. */
const fromLines = (text: string): Either.Either<string, string> => {
  const urls: Array<string> = []
  const lines = text.split(/\r?\n/)
  for (let i = 0; i < lines.length; i++) {
    const line = (lines[i] ?? "").trim()
    if (line === "" || line.startsWith("#")) continue
    if (!address.test(line)) return Either.left(`is neither JSON nor a list of addresses (line ${i + 1})`)
    urls.push(line)
  }
  return urls.length === 0 ? Either.left("is empty") : Either.right(JSON.stringify({ servers: urls }))
}

/**
 * What a document says, or why it cannot be used as a whole. Records that cannot be used are left out, with a warning.
 */
export const parse = ({ name, path }: DocumentPlace, text: string): Either.Either<Catalogue.Catalogue, string> => {
  const content = text.replace(/^\uFEFF/, "").trim()
  const json = /^[[{]/.test(content) ? Either.right(content) : fromLines(content)
  return Either.flatMap(json, (text) => Catalogue.parseFile({ path: name, family: familyOf(path), text }, true))
}
