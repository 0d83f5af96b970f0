/** What is left of a body in the request log: fields that were named are not stored, nor is anything that is a key. */

const hidden = "[redacted]"

/** Fields that hold keys, wherever they are. */
const secret = /^(authorization|proxy-authorization|x-api-key|api[_-]?key|apikey|password|secret|access[_-]?token)$/i

/** Keys in texts: those of the store, and those of well-known services. */
const keys = /\bsk-[A-Za-z0-9_-]{16,}|\bBearer\s+[A-Za-z0-9._~+/-]{16,}=*/g

type Path = ReadonlyArray<string>

/** `messages.*.content`: the names from the outside in; `*` is any of them. */
export const pathsOf = (given: ReadonlyArray<string>): ReadonlyArray<Path> => given.map((path) => path.split("."))

const matches = (name: string, part: string | undefined): boolean => part === "*" || part === name

/** A copy without what must not be stored. Deeper values than `depth` are not stored either. */
const copy = (value: unknown, paths: ReadonlyArray<Path>, depth: number): unknown => {
  if (typeof value === "string") return value.replace(keys, hidden)
  if (typeof value !== "object" || value === null) return value
  if (depth === 0) return hidden
  const inside = (name: string, one: unknown): unknown => {
    if (secret.test(name)) return hidden
    const rest = paths.filter(([part]) => matches(name, part)).map(([, ...parts]) => parts)
    return rest.some((parts) => parts.length === 0) ? hidden : copy(one, rest, depth - 1)
  }
  if (Array.isArray(value)) return value.map((one, at) => inside(String(at), one))
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, inside(name, one)]))
}

const deepest = 64

/** A JSON value as it may be stored. */
export const redacted = (value: unknown, paths: ReadonlyArray<Path>): unknown => copy(value, paths, deepest)

const line = (text: string, paths: ReadonlyArray<Path>): string => {
  if (text === "data: [DONE]") return text
  const at = text.startsWith("data: ") ? 6 : 0
  if (text[at] !== "{" && text[at] !== "[") return text.replace(keys, hidden)
  try {
    return text.slice(0, at) + JSON.stringify(redacted(JSON.parse(text.slice(at)), paths))
  } catch {
    // A part of a line: its content is unknown.
    return hidden
  }
}

/** An answer: one JSON value, or lines and events of them. */
export const redactedText = (text: string, paths: ReadonlyArray<Path>): string =>
  text
    .split("\n")
    .map((one) => line(one, paths))
    .join("\n")
