/** A registry that is named by its address: how a user names one, and what is made of that. */
import * as Either from "effect/Either"
import type { Redacted } from "effect/Redacted"
import { InvalidConfig } from "../Errors.js"
import * as Server from "../Server.js"
import { redactUserInfo } from "../server/address.js"

/**
 * A registry that is read from an address.
 *
 * @since 0.3.0
 * @category models
 */
export interface RegistryUrl {
  /** The address, without a name and a password. */
  readonly url: string
  /** The address as it may be shown. */
  readonly name: string
  /** Headers of a request for it. No other host gets them. */
  readonly headers: { readonly [name: string]: Redacted }
  /** How long a copy is fresh, in milliseconds: after half of that the source is asked whether it has changed. */
  readonly ttl: number
  /** How long a request may take, in milliseconds. */
  readonly timeout: number
  /** How long the content may be, in bytes. */
  readonly maxBytes: number
  /** Whether a content is taken over that has less than half of what the one before had. */
  readonly acceptSmaller: boolean
}

/** Defaults: how long a copy is fresh and how long a request may take (milliseconds), and the longest content (bytes). */
export const defaults = { ttl: 3_600_000, timeout: 10_000, maxBytes: 32 * 1024 * 1024 }

/** How a user names one; times are in milliseconds. */
export interface RegistryUrlOptions {
  readonly url: string
  readonly apiKey?: string | Redacted | undefined
  readonly headers?: { readonly [name: string]: string | Redacted } | undefined
  readonly ttl?: number | undefined
  readonly timeout?: number | undefined
  readonly maxBytes?: number | undefined
  readonly acceptSmaller?: boolean | undefined
}

/** Whether a text names a registry by its address, and not a folder or a file. */
export const isUrl = (text: string): boolean => /^\s*https?:\/\//i.test(text)

/** An address as it may be shown: a query may hold a token. */
export const shown = (url: URL): string => `${url.origin}${url.pathname}${url.search === "" ? "" : "?…"}`

/** What is made of an address, or what is wrong with it; `field` is where it stands, for the error. */
export const fromOptions = (
  input: string | RegistryUrlOptions,
  source: string,
  field = "registry"
): Either.Either<RegistryUrl, InvalidConfig> => {
  const {
    acceptSmaller = false,
    apiKey,
    headers,
    maxBytes,
    timeout,
    ttl,
    url
  } = typeof input === "string" ? { url: input } : input
  let parsed: URL
  try {
    parsed = new URL(url.trim())
  } catch {
    const reason = `'${redactUserInfo(url.trim())}' is not an address such as https://host/servers.json`
    return Either.left(new InvalidConfig({ source, field, reason }))
  }
  if (!isUrl(url)) {
    const reason = `'${redactUserInfo(url.trim())}' must begin with https:// or http://`
    return Either.left(new InvalidConfig({ source, field, reason }))
  }
  const user = parsed.username === "" && parsed.password === "" ? "" : `${parsed.username}:${parsed.password}@`
  // The rules for keys and headers are those of servers.
  const made = Server.fromOptions({ url: `${parsed.protocol}//${user}${parsed.host}`, apiKey, headers }, source)
  return Either.mapBoth(made, {
    onLeft: (error) =>
      new InvalidConfig({ source, field: error.field.replace(/^servers/, field), reason: error.reason }),
    onRight: ({ authorization, headers }): RegistryUrl => {
      parsed.username = ""
      parsed.password = ""
      parsed.hash = ""
      return {
        url: parsed.href,
        name: shown(parsed),
        headers: { ...headers, ...(authorization === undefined ? {} : { authorization }) },
        ttl: ttl ?? defaults.ttl,
        timeout: timeout ?? defaults.timeout,
        maxBytes: maxBytes ?? defaults.maxBytes,
        acceptSmaller
      }
    }
  })
}
