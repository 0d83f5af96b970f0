/** How a message of several lines is typed: between `"""` and `"""`, or with a `\` at the end of a line. */
const quotes = '"""'

/** Whether a text begins with `"""` and has no second one at its end. */
export const isOpenBlock = (text: string): boolean => {
  const trimmed = text.trim()
  return trimmed.startsWith(quotes) && !(trimmed.length >= 2 * quotes.length && trimmed.endsWith(quotes))
}

/** Whether a line goes on in the next one. */
export const goesOn = (text: string): boolean => text.endsWith("\\")

/** The message without the marks of a block. */
export const messageOf = (text: string): string => {
  const trimmed = text.trim()
  return trimmed.startsWith(quotes) && !isOpenBlock(trimmed)
    ? trimmed.slice(quotes.length, -quotes.length).trim()
    : trimmed
}
