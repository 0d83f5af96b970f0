/**
 * Why a registry could not be read or changed.
 */
import * as Schema from "effect/Schema"

/**
 * Why the content of a registry source could not be taken over.
 *
 * - `unreachable`: no connection, or it broke
 * - `timeout`: no answer within the `timeout` of the source
 * - `too-large`: more than `maxBytes`
 * - `redirect`: too many redirects, or one that leads from https to http
 * - `http-status`: the address answered with an error
 * - `not-a-registry`: the content has none of the known forms
 * - `empty`: it names no server and no model
 * - `much-smaller`: it has less than half of what the copy in use has
 * - `unreadable`: a folder or a file cannot be read
 *
 * @since 0.3.0
 * @category models
 */
export const RegistrySourceReason = Schema.Literal(
  "unreachable",
  "timeout",
  "too-large",
  "redirect",
  "http-status",
  "not-a-registry",
  "empty",
  "much-smaller",
  "unreadable"
)

/**
 * @since 0.3.0
 * @category models
 */
export type RegistrySourceReason = typeof RegistrySourceReason.Type

/**
 * A source of the registry (an address, a folder or a file) could not be read, or what it holds is not taken over. The
 * last good copy stays in use. It fails no call: see `Registry.sources`; it is among `Registry.warnings`, too.
 *
 * @since 0.3.0
 * @category errors
 */
export class RegistrySourceFailed extends Schema.TaggedError<RegistrySourceFailed>("aicortex/RegistrySourceFailed")(
  "RegistrySourceFailed",
  {
    /** The source: an address without what may be secret in it, a folder or a file. */
    source: Schema.String,
    /** The kind of failure. */
    reason: RegistrySourceReason,
    /** The same in words. It holds no secret. */
    detail: Schema.String,
    /** The HTTP status, where the source answered with an error. */
    status: Schema.optionalWith(Schema.Number, { exact: true })
  }
) {
  override get message() {
    return `The registry ${this.source} ${this.detail}.`
  }
}
