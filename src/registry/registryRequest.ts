/** Gets the content of a registry by its address: bounded in bytes and time, with few redirects. */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpIncomingMessage from "@effect/platform/HttpIncomingMessage"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { RegistrySourceFailed, type RegistrySourceReason } from "../errors/registry.js"
import { transportReason } from "./discovery.js"
import type { RegistryCopy } from "./registryCopies.js"
import { type RegistryUrl, shown } from "./registryUrl.js"

/** More redirects in a row are a loop. */
const maxRedirects = 5

/** What came: the content with its validators, or that the copy is still the same. */
export type Answer = "unchanged" | Pick<RegistryCopy, "text" | "etag" | "lastModified">

/** A failure of this source. */
export const failed = (
  { name }: Pick<RegistryUrl, "name">,
  reason: RegistrySourceReason,
  detail: string,
  status?: number
): RegistrySourceFailed =>
  new RegistrySourceFailed({ source: name, reason, detail, ...(status === undefined ? {} : { status }) })

const isTooLong = (error: { readonly cause?: unknown }): boolean =>
  (error.cause as { readonly code?: unknown } | undefined)?.code === "UND_ERR_RES_EXCEEDED_MAX_SIZE"

const validatorsOf = (copy: RegistryCopy | undefined): { readonly [name: string]: string } => ({
  ...(copy?.etag === undefined ? {} : { "if-none-match": copy.etag }),
  ...(copy?.lastModified === undefined ? {} : { "if-modified-since": copy.lastModified })
})

/** Credentials go to the host that they were given for, and to no other. */
const credentialsOf = (source: RegistryUrl, url: URL): { readonly [name: string]: string } =>
  url.origin === new URL(source.url).origin
    ? Object.fromEntries(Object.entries(source.headers).map(([name, value]) => [name, Redacted.value(value)]))
    : {}

const request = Effect.fnUntraced(function* (
  client: HttpClient.HttpClient,
  source: RegistryUrl,
  url: URL,
  copy: RegistryCopy | undefined
) {
  const headers = {
    ...credentialsOf(source, url),
    accept: "application/json, text/plain;q=0.9, */*;q=0.5",
    ...validatorsOf(copy)
  }
  return yield* client.execute(HttpClientRequest.get(url.href, { headers })).pipe(
    Effect.flatMap((response) => Effect.map(response.text, (text) => ({ response, text }))),
    HttpIncomingMessage.withMaxBodySize(Option.some(source.maxBytes)),
    Effect.mapError((error) =>
      isTooLong(error)
        ? failed(source, "too-large", `is longer than ${source.maxBytes} bytes`)
        : failed(source, "unreachable", transportReason(error))
    )
  )
})

/** The address that a redirect leads to, if it may be followed. */
const targetOf = (
  source: RegistryUrl,
  from: URL,
  location: string | undefined
): Effect.Effect<URL, RegistrySourceFailed> => {
  if (location === undefined || !URL.canParse(location, from.href)) {
    return Effect.fail(failed(source, "redirect", "redirects without an address"))
  }
  const to = new URL(location, from)
  to.username = ""
  to.password = ""
  to.hash = ""
  return to.protocol === "https:" || (to.protocol === "http:" && from.protocol === "http:")
    ? Effect.succeed(to)
    : Effect.fail(failed(source, "redirect", `redirects to ${shown(to)}, which is less safe, and is not followed`))
}

const follow = Effect.fnUntraced(function* (
  client: HttpClient.HttpClient,
  source: RegistryUrl,
  copy: RegistryCopy | undefined
): Effect.fn.Return<Answer, RegistrySourceFailed> {
  let url = new URL(source.url)
  for (let hops = 0; hops <= maxRedirects; hops++) {
    const { response, text } = yield* request(client, source, url, copy)
    const { headers, status } = response
    if (status === 304 && copy !== undefined) return "unchanged"
    if (status === 200) return { text, etag: headers["etag"], lastModified: headers["last-modified"] }
    if (![301, 302, 303, 307, 308].includes(status)) {
      return yield* failed(source, "http-status", `answered HTTP ${status}`, status)
    }
    url = yield* targetOf(source, url, headers["location"])
  }
  return yield* failed(source, "redirect", `redirects more than ${maxRedirects} times`)
})

/** Asks for the content; with a `copy`, whether it is still the same. */
export const get = (
  client: HttpClient.HttpClient,
  source: RegistryUrl,
  copy: RegistryCopy | undefined
): Effect.Effect<Answer, RegistrySourceFailed> =>
  Effect.timeoutFail(follow(client, source, copy), {
    duration: source.timeout,
    onTimeout: () => failed(source, "timeout", `did not answer within ${source.timeout / 1000} s`)
  })
