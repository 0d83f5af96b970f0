/** How a message of several lines is typed: between `"""` and `"""`, or with a `\` at the end of a line. */
const quotes = '"""'

/** Whether a text begins with `"""`, and there is no second one. */
export const isOpenBlock = (text: string): boolean => {
  const trimmed = text.trimStart()
  return trimmed.startsWith(quotes) && !trimmed.includes(quotes, quotes.length)
}

/** Whether a line goes on in the next one. */
export const goesOn = (text: string): boolean => text.endsWith("\\")

/** The message without the marks of a block. A text that goes on behind the second `"""`, as code may, has no marks. */
export const messageOf = (text: string): string => {
  const trimmed = text.trim()
  const isBlock =
    trimmed.startsWith(quotes) && trimmed.indexOf(quotes, quotes.length) === trimmed.length - quotes.length
  return isBlock && trimmed.length >= 2 * quotes.length ? trimmed.slice(quotes.length, -quotes.length).trim() : trimmed
}
