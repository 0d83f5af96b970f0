/**
 * What every error is made with.
 *
 * @internal
 */
import * as Schema from "effect/Schema"

/**
 * `Schema.TaggedError` whose JSON has the message too. Effect's has the fields alone, and the messages of our errors are
 * worked out by getters. A schema encodes the fields, as before.
 *
 * @internal
 */
export const TaggedError = (<Self>(identifier?: string) =>
  <Tag extends string, Fields extends Schema.Struct.Fields>(tag: Tag, fields: Fields) => {
    const made = Schema.TaggedError<Self>(identifier)(tag, fields)
    const { prototype } = made as unknown as { readonly prototype: WithJson }
    const { toJSON } = prototype
    Object.defineProperty(prototype, "toJSON", {
      value(this: WithJson) {
        return { ...toJSON.call(this), message: this.message }
      },
      configurable: true,
      writable: true
    })
    return made
  }) as typeof Schema.TaggedError

interface WithJson extends Error {
  readonly toJSON: () => object
}
