/** Servers of Anthropic's API: their address, and the headers that they want. */

type Headers = { readonly [name: string]: string }

/** The version of the API that is spoken: every request must name one. */
const version = "2023-06-01"

/** Whether an address is Anthropic's own. */
export const isOwn = (url: string): boolean => /^https?:\/\/api\.anthropic\.com(:\d+)?(\/|$)/i.test(url)

const bearer = "Bearer "

/** The user's headers with the version, which they may name too, and the key where this API wants it. */
export const headersOf = (own: Headers, authorization: string | undefined): Headers => {
  const made = { "anthropic-version": version, ...own }
  if (authorization === undefined) return made
  return authorization.startsWith(bearer)
    ? { ...made, "x-api-key": authorization.slice(bearer.length) }
    : { ...made, authorization }
}
