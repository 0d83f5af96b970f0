/** Redacts error messages: API keys of servers, and, unless they are to be shown, addresses and file names. */

export interface RedactionOptions {
  /** Never shown. */
  readonly secrets: ReadonlyArray<string>
  /** Of the servers. */
  readonly urls: ReadonlyArray<string>
  /** Whether addresses may be shown. */
  readonly expose: boolean
}

export interface Redaction {
  /** For each error message sent to a client. */
  readonly redactMessage: (text: string) => string
  /** For text from a server or the operating system, which may name machines and files. */
  readonly words: (text: string) => string
}

const address = /\b[a-z][a-z0-9+.-]*:\/\/[^\s"'<>]+/gi
const ipv4 = /\b(?:\d{1,3}\.){3}\d{1,3}\b(?::\d{1,5})?/g
const bracketed = /\[[0-9a-f.]*:[0-9a-f:.]*\](?::\d{1,5})?/gi
const ipv6 =
  /(?<![\w:])(?:(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{1,4}|(?:[0-9a-f]{1,4}(?::[0-9a-f]{1,4})*)?::(?:[0-9a-f]{1,5}(?::[0-9a-f]{1,5})*)?)(?![\w:])/gi

/** File paths, but not the paths of an API. */
const file = /(?<![\w.:/])(?:\/(?!v\d+\/|api\/)(?:[\w.@+~-]+\/)+[\w.@+~-]*|[a-z]:\\[^\s"'<>]+)/gi

/** Short words, such as why a server was chosen, are the same for one request after another. */
const longestKnown = 100
const maxKnown = 256

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")

/** A whole name, not a part of another one. */
const wordOf = (name: string): RegExp => new RegExp(`(?<![\\w.-])${escaped(name)}(?![\\w-]|\\.\\w)`, "gi")

export const make = ({ expose, secrets, urls }: RedactionOptions): Redaction => {
  const places = urls.flatMap((url) => {
    try {
      return [new URL(url)]
    } catch {
      return []
    }
  })
  const hosts = [...new Set(places.flatMap(({ host, port }) => (port === "" ? [] : [host])))]
  // Names of models and programs may begin with these words too, but not in messages of the operating system.
  const names = [...new Set(places.map(({ hostname }) => hostname))].filter(
    (name) => name !== "" && name !== "localhost"
  )
  const words = names.map(wordOf)
  const secret = (text: string): string => {
    let plain = text
    for (const one of secrets) plain = plain.replaceAll(one, "…")
    return plain
  }
  const redactMessage = (text: string): string => {
    const plain = secret(text)
    if (expose) return plain
    let hidden = plain.replace(address, "…")
    for (const host of hosts) hidden = hidden.replaceAll(host, "…")
    return hidden.replace(ipv4, "…").replace(bracketed, "…")
  }
  const redactWords = (text: string): string => {
    let hidden = redactMessage(text)
    if (expose) return hidden
    for (const word of words) hidden = hidden.replace(word, "…")
    return hidden.replace(ipv6, "…").replace(file, "…")
  }
  const known = new Map<string, string>()
  return {
    redactMessage,
    words: (text) => {
      if (text.length > longestKnown) return redactWords(text)
      let hidden = known.get(text)
      if (hidden === undefined) {
        hidden = redactWords(text)
        if (known.size >= maxKnown) known.clear()
        known.set(text, hidden)
      }
      return hidden
    }
  }
}
