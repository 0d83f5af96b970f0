/**
 * How request fields are treated, the same at every endpoint:
 *
 * | field | treatment |
 * |---|---|
 * | one that the endpoint reads | it is read, and refused where its value is wrong |
 * | known, makes no difference to an answer (`harmlessFields`) | left out, and named in a header of the response |
 * | known, changes the answer, and cannot be done (`refused` in the declaration) | the request is refused, with the reason |
 * | any other, also within messages, tools and the like | left out, and named; refused where the gateway is `strict` |
 *
 * `null` counts as absent.
 */
import { type Fields, pathOf, type Reasons } from "./body.js"
import * as ErrorResponse from "./errorResponse.js"

/** The response header that lists ignored fields. */
export const header = "x-aicortex-ignored"

/** Fields that clients send to every API and that make no difference to an answer here. */
export const harmlessFields: ReadonlySet<string> = new Set([
  "service_tier",
  "safety_identifier",
  "prompt_cache_retention",
  "prompt_cache_options",
  "prediction",
  "moderation",
  "client_metadata",
  "betas",
  "anthropic_beta",
  "anthropic_version",
  "mcp_servers",
  "container",
  "speed",
  "diagnostics"
])

/** Limits of the header: number of names, and characters of each. */
const mostNames = 40
const longestName = 60

const safe = (name: string): string =>
  (name.length > longestName ? name.slice(0, longestName) : name).replace(/[^\w.[\]-]/g, "_")

/** What a declaration says of fields: those that are read, and why others are not supported. */
interface Declared {
  readonly names: ReadonlySet<string>
  readonly refused: Reasons
}

/** The ignored fields of one request. */
export class IgnoredFields {
  private names: Set<string> | undefined

  constructor(readonly strict: boolean) {}

  /** Records a field without effect. Positions in lists are not distinguished. */
  add(name: string): void {
    this.names ??= new Set()
    if (this.names.size > mostNames) return
    this.names.add(safe(name.replace(/\[\d+\]/g, "[]")))
  }

  /** Records an unknown field, or rejects it in strict mode. */
  unknown(at: string, where = "of this endpoint"): void {
    if (this.strict) ErrorResponse.reject(at, `is not a parameter ${where}`, "unknown_parameter")
    this.add(at)
  }

  /** Ignores a field that the endpoint does not read. */
  ignore(name: string): void {
    if (harmlessFields.has(name)) this.add(name)
    else this.unknown(name)
  }

  /** Checks the fields of a body against those that its endpoint reads, and those that it has a reason to refuse. */
  check(body: Fields, { names, refused }: Declared): void {
    for (const name in body) {
      if (names.has(name)) continue
      const value = body[name]
      if (value === null || value === undefined) continue
      const reason = refused.get(name)
      if (reason === undefined) this.ignore(name)
      // A switch set to false asks for nothing.
      else if (value !== false && value !== "") {
        ErrorResponse.reject(name, `is not supported: ${reason}`, "unsupported_parameter")
      }
    }
  }

  /** The same for a nested object at path `at`, or for an item of a list there. */
  checkObject(object: Fields, known: ReadonlySet<string>, at: string, index?: number): void {
    for (const name in object) {
      if (known.has(name)) continue
      const value = object[name]
      if (value !== null && value !== undefined) this.unknown(`${pathOf(at, index)}.${name}`, "of it")
    }
  }

  /** The header's value, if there is anything to report. */
  headerValue(): string | undefined {
    const { names } = this
    if (names === undefined || names.size === 0) return undefined
    const all = [...names]
    return all.length > mostNames ? `${all.slice(0, mostNames).join(", ")}, ...` : all.join(", ")
  }
}
