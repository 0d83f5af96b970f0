/** The schema of a reply, from a file. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Config from "../../config/resolve.js"
import { isObject } from "../../internal/isObject.js"
import * as StructuredOutput from "../../StructuredOutput.js"
import { CommandFailed } from "../errors.js"

/** A JSON Schema in a file, as what a reply has to fit. */
export const readSchema = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  const fail = (reason: string) => new CommandFailed({ message: `the schema ${file} ${reason}` })
  const text = yield* Effect.mapError(fs.readFileString(file), (error) =>
    fail(
      error._tag === "SystemError" && error.reason === "NotFound"
        ? "does not exist"
        : `cannot be read: ${error.message}`
    )
  )
  const value = yield* Either.try({
    try: (): unknown => JSON.parse(text.replace(/^\uFEFF/, "")),
    catch: (cause) => fail(`is not JSON: ${cause instanceof Error ? cause.message : cause}`)
  })
  if (!isObject(value)) return yield* fail("is not a JSON Schema: it must be an object")
  const { maxSchemaBytes } = yield* Config.settings({})
  return yield* StructuredOutput.from(value, { maxBytes: maxSchemaBytes })
})
