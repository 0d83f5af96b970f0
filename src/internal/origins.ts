/** Origins of web pages, and patterns for them. */

/** An origin as browsers send it: scheme, host and port, never a user, path or query. */
const form = /^([a-z][a-z0-9+.-]*):\/\/(\[[0-9a-f:.]+\]|[^\s/?#@:\\[\]*]+)(?::(\d{1,5}))?$/i

/** The same with `*` for the host or its first labels, and for the port. */
const patternForm =
  /^([a-z][a-z0-9+.-]*):\/\/(\*|\*\.[^\s/?#@:\\[\]*.][^\s/?#@:\\[\]*]*|\[[0-9a-f:.]+\]|[^\s/?#@:\\[\]*]+)(?::(\d{1,5}|\*))?$/i

/**
 * Whether a text is a valid pattern: `*` for all, `null` for pages without an origin (files, sandboxes), an origin of
 * any scheme, or one with `*` for the host (`chrome-extension://*`), its first labels (`https://*.example.com`) or its
 * port (`http://localhost:*`).
 */
export const isPattern = (text: string): boolean => {
  if (text === "*" || text === "null") return true
  const [, scheme = "", host = "", port] = patternForm.exec(text) ?? []
  if (scheme === "" || (port !== undefined && port !== "*" && Number(port) > 65_535)) return false
  if (!/^https?$/i.test(scheme) || host === "*") return true
  // As browsers write it: without the scheme's default port.
  const plain = `${scheme}://${host.replace(/^\*\./, "any.")}${port === undefined || port === "*" ? "" : `:${port}`}`
  try {
    return new URL(plain).origin === plain
  } catch {
    return false
  }
}

const matches = (pattern: string, scheme: string, host: string, port: string | undefined): boolean => {
  const [, wantedScheme = "", wantedHost = "", wantedPort] = patternForm.exec(pattern.toLowerCase()) ?? []
  if (wantedScheme !== scheme) return false
  if (wantedPort !== "*" && wantedPort !== port) return false
  if (wantedHost === "*") return true
  return wantedHost.startsWith("*.") ? host.endsWith(wantedHost.slice(1)) : host === wantedHost
}

/** Whether a pattern matches an origin. `null` is only matched by `null` and `*`. */
export const allows = (patterns: ReadonlyArray<string>, origin: string): boolean => {
  if (patterns.includes("*") || patterns.includes(origin)) return true
  const [, scheme, host, port] = form.exec(origin.toLowerCase()) ?? []
  if (scheme === undefined || host === undefined) return false
  return patterns.some((pattern) => matches(pattern, scheme, host, port))
}

/** Host and port of an origin; `undefined` if it has none, or is invalid. */
export const placeOf = (origin: string): { readonly host: string; readonly name: string } | undefined => {
  const [, , name, port] = form.exec(origin) ?? []
  return name === undefined ? undefined : { name, host: port === undefined ? name : `${name}:${port}` }
}
