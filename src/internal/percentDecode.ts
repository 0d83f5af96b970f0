/** The text that is percent-encoded in an address; one with a literal percent sign stays as it is. */
export const percentDecode = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
