/**
 * How many characters at the end of a text may be the beginning of `mark`.
 *
 * @internal
 */
export const partialMark = (text: string, mark: string): number => {
  let n = Math.min(mark.length - 1, text.length)
  while (n > 0 && !text.endsWith(mark.slice(0, n))) n--
  return n
}
