/** How servers are reached: through which proxy, and whose certificates are trusted. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { InvalidConfig } from "../Errors.js"
import type { Proxy } from "../Settings.js"
import type { Place } from "./collect.js"
import { optionalString, reasonOf } from "./file.js"
import type { ProxyOption } from "./fleet.js"

/** The address may hold a password: it is never shown. */
const address = (
  given: unknown,
  field: string,
  source: string
): Effect.Effect<Redacted.Redacted | undefined, InvalidConfig> => {
  if (given === undefined) return Effect.succeed(undefined)
  const text = Redacted.isRedacted(given) ? Redacted.value(given) : given
  const fail = Effect.fail(
    new InvalidConfig({ source, field, reason: "must be the address of a proxy, such as http://proxy:3128" })
  )
  if (typeof text !== "string" || text.trim() === "") return fail
  const whole = /^[a-z][a-z0-9+.-]*:\/\//i.test(text.trim()) ? text.trim() : `http://${text.trim()}`
  try {
    const { hostname, protocol } = new URL(whole)
    return hostname !== "" && (protocol === "http:" || protocol === "https:")
      ? Effect.succeed(Redacted.make(whole))
      : fail
  } catch {
    return fail
  }
}

const fromOption = Effect.fnUntraced(function* (option: Exclude<ProxyOption, false>, { field, source }: Place) {
  if (typeof option === "string" || Redacted.isRedacted(option)) {
    const all = yield* address(option, field, source)
    return { http: all, https: all, no: "", loopback: false }
  }
  const { http, https, loopback = false, no = "" } = option
  return {
    http: yield* address(http, `${field}.http`, source),
    https: yield* address(https, `${field}.https`, source),
    no,
    loopback
  }
})

/** The usual names, in small letters first, as most programs read them. */
const either = Effect.fnUntraced(function* (name: string) {
  const small = yield* optionalString(name.toLowerCase())
  return small === undefined ? ([name, yield* optionalString(name)] as const) : ([name.toLowerCase(), small] as const)
})

/**
 * The proxy that holds: the one that was given, else that of `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`. `alone`: where the
 * environment is not read.
 */
export const proxy = Effect.fnUntraced(function* (
  given: ProxyOption | undefined,
  place: Place,
  alone: boolean
): Effect.fn.Return<Proxy | undefined, InvalidConfig> {
  if (given === false || (given === undefined && alone)) return undefined
  const [, no = ""] = alone ? [] : yield* either("NO_PROXY")
  if (given !== undefined) {
    const found = yield* fromOption(given, place)
    return { ...found, no: `${found.no},${no}` }
  }
  const [httpName, http] = yield* either("HTTP_PROXY")
  const [httpsName, https] = yield* either("HTTPS_PROXY")
  if (http === undefined && https === undefined) return undefined
  return {
    http: yield* address(http, httpName, "the environment"),
    https: yield* address(https, httpsName, "the environment"),
    no,
    loopback: false
  }
})

const begins = "-----BEGIN "

/** The certificates of further authorities: files of them (PEM), or their text. */
export const authorities = Effect.fnUntraced(function* (
  given: string | ReadonlyArray<string> | undefined,
  { field, source }: Place
) {
  if (given === undefined) return []
  const fs = yield* FileSystem.FileSystem
  return yield* Effect.forEach(typeof given === "string" ? [given] : given, (one) =>
    Effect.gen(function* () {
      const fail = (reason: string) => new InvalidConfig({ source, field, reason })
      if (one.startsWith(begins)) return one
      const text = yield* Effect.mapError(fs.readFileString(one), (error) => fail(`${one}: ${reasonOf(error)}`))
      return text.includes(`${begins}CERTIFICATE`) ? text : yield* fail(`${one} holds no certificate in PEM form`)
    })
  )
})
