/** Names in which `*` matches any text. */

/** The texts between the asterisks of a pattern. */
export type NamePattern = ReadonlyArray<string>

/** @internal */
export const namePattern = (text: string): NamePattern => text.split("*")

/**
 * Whether a text fits a pattern, in linear time.
 *
 * @internal
 */
export const fits = (parts: NamePattern, text: string): boolean => {
  const [first = "", ...rest] = parts
  const last = rest.pop()
  if (last === undefined) return text === first
  if (!text.startsWith(first) || text.length < first.length + last.length || !text.endsWith(last)) return false
  let at = first.length
  for (const part of rest) {
    const found = text.indexOf(part, at)
    if (found === -1) return false
    at = found + part.length
  }
  return at <= text.length - last.length
}
