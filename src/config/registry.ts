/** The settings of a registry that is named by its address, in an object of `registry`. */
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type { InvalidConfig } from "../Errors.js"
import { milliseconds, wholeFrom } from "../internal/units.js"
import * as RegistryUrls from "../registry/registryUrl.js"
import { fields } from "../server/options.js"
import type { Place } from "./collect.js"
import { Secret } from "./server.js"
import { sectionOf, setting } from "./setting.js"

export const registryUrl = {
  /** Its address, https:// or http://. */
  url: setting(fields.url, { doc: "Its address, https:// or http://." }),
  /**
   * Sent as Authorization: Bearer to the host of the address, and to no other. In the file a text, or { "env": "NAME" }
   * for a variable that holds it.
   */
  apiKey: setting(fields.apiKey, {
    doc: 'Sent as Authorization: Bearer to the host of the address, and to no other. In the file a text, or { "env": "NAME" } for a variable that holds it.',
    file: Secret
  }),
  /** More headers of requests to that host, each like apiKey. Default: none. */
  headers: setting(fields.headers, {
    doc: "More headers of requests to that host, each like apiKey.",
    defaultText: "none",
    file: Schema.Record({ key: Schema.String, value: Secret })
  }),
  /**
   * How long a copy is fresh. After half of that the source is asked, in the background, whether it has changed.
   * Default: 3600 s. In milliseconds.
   */
  ttl: setting(milliseconds, {
    doc: "How long a copy is fresh. After half of that the source is asked, in the background, whether it has changed.",
    default: RegistryUrls.defaults.ttl
  }),
  /** How long a request may take. Default: 10 s. In milliseconds. */
  timeout: setting(milliseconds, { doc: "How long a request may take.", default: RegistryUrls.defaults.timeout }),
  /** How long the content may be. Default: 33554432. */
  maxBytes: setting(wholeFrom(1, "bytes"), {
    doc: "How long the content may be.",
    default: RegistryUrls.defaults.maxBytes
  }),
  /**
   * Whether a content is taken over that has less than half of the servers or models of the one before. Default: false.
   */
  acceptSmaller: setting(Schema.Boolean, {
    doc: "Whether a content is taken over that has less than half of the servers or models of the one before.",
    default: false
  })
} as const

/** A registry by address as a program gives it. */
export const RegistryUrlOptions = Schema.Struct({
  /** Its address, `https://` or `http://`. */
  url: registryUrl.url.schema,
  /** Sent as `Authorization: Bearer` to the host of the address, and to no other. */
  apiKey: Schema.optional(registryUrl.apiKey.schema),
  /** More headers of requests to that host. Default: none. */
  headers: Schema.optional(registryUrl.headers.schema),
  /**
   * How long a copy is fresh, in milliseconds; after half of that the source is asked, in the background, whether it
   * has changed. Default an hour.
   */
  ttl: Schema.optional(registryUrl.ttl.schema),
  /** How long a request may take, in milliseconds; default 10,000. */
  timeout: Schema.optional(registryUrl.timeout.schema),
  /** How long the content may be, in bytes; default 32 MiB. */
  maxBytes: Schema.optional(registryUrl.maxBytes.schema),
  /**
   * Whether a content is taken over that has less than half of the servers or models of the one before; default
   * `false`.
   */
  acceptSmaller: Schema.optional(registryUrl.acceptSmaller.schema)
})

const { url: _, ...others } = sectionOf(registryUrl)

/** A registry by address in the configuration file. */
const FileRegistryUrl = Schema.Struct({ url: Schema.NonEmptyString, ...others })

export interface FileRegistryUrl extends Omit<RegistryUrls.RegistryUrlOptions, "apiKey" | "headers"> {
  readonly apiKey?: Secret | undefined
  readonly headers?: { readonly [name: string]: Secret } | undefined
}

/** The setting in the configuration file: one source, or a list of them. */
export const FileRegistry = Schema.Union(
  Schema.NonEmptyString,
  FileRegistryUrl,
  Schema.Array(Schema.Union(Schema.NonEmptyString, FileRegistryUrl))
) as unknown as Schema.Schema.AnyNoContext

type RegistryOption = string | RegistryUrls.RegistryUrlOptions | FileRegistryUrl

/** The value of a secret of the file, at this place. */
export type ReadSecret<E, R> = (
  given: Secret,
  place: Place,
  name: string
) => Effect.Effect<string | Redacted.Redacted, E, R>

/** The sources that were given; `secret` reads those of the configuration file. */
export const sourcesOf = <E, R>(
  given: RegistryOption | ReadonlyArray<RegistryOption> | undefined,
  place: Place,
  secret: ReadSecret<E, R>
) =>
  Effect.forEach(
    given === undefined
      ? []
      : Array.isArray(given)
        ? (given as ReadonlyArray<RegistryOption>)
        : [given as RegistryOption],
    Effect.fnUntraced(function* (one) {
      if (typeof one === "string") {
        return RegistryUrls.isUrl(one) ? yield* RegistryUrls.fromOptions(one, place.source, place.field) : one
      }
      const { apiKey, headers, ...rest } = one as FileRegistryUrl
      const read = (value: Secret, name: string) =>
        typeof value === "object" && "env" in value ? secret(value, place, name) : Effect.succeed(value)
      return yield* RegistryUrls.fromOptions(
        {
          ...rest,
          apiKey: apiKey === undefined ? undefined : yield* read(apiKey, "apiKey"),
          headers:
            headers === undefined
              ? undefined
              : Object.fromEntries(
                  yield* Effect.forEach(Object.entries(headers), ([name, value]) =>
                    Effect.map(read(value, `headers.${name}`), (text) => [name, text] as const)
                  )
                )
        },
        place.source,
        place.field
      )
    })
  ) as Effect.Effect<ReadonlyArray<string | RegistryUrls.RegistryUrl>, E | InvalidConfig, R>
