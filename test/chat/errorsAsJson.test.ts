/** JSON of errors in Effect has their message, and whatever else Effect makes of them is as before. */
import * as Arbitrary from "effect/Arbitrary"
import * as Cause from "effect/Cause"
import * as Equal from "effect/Equal"
import * as FastCheck from "effect/FastCheck"
import * as Schema from "effect/Schema"
import { expect, it } from "vitest"
import * as Errors from "../../src/Errors.js"

type ErrorClass = Schema.Schema<Error & { readonly _tag: string }, object> & { readonly _tag: string }

const classes = Object.values(Errors).filter(
  (one): one is typeof one & ErrorClass =>
    typeof one === "function" && "_tag" in one && "prototype" in one && one.prototype instanceof Error
)

it("there are errors of every kind", () => {
  expect(classes.map(({ _tag }) => _tag)).toEqual(
    expect.arrayContaining([
      "InvalidRequest",
      "EngineFailed",
      "RegistryFileFailed",
      "StoreUnavailable",
      "TurnNotStored"
    ])
  )
})

it.each(classes.map((one) => [one._tag, one] as const))("%s", (_tag, one) => {
  for (const error of FastCheck.sample(Arbitrary.make(one), { numRuns: 5, seed: 1 })) {
    const { message } = error
    expect(message).toMatch(/./)
    const fields = Schema.encodeSync(one)(error)
    const json = JSON.parse(JSON.stringify(error))
    expect(json).toMatchObject({ ...JSON.parse(JSON.stringify({ ...error })), _tag, message })
    expect(JSON.parse(JSON.stringify(Cause.fail(error)))).toMatchObject({ _tag: "Fail", error: json })
    // A schema says what is kept of it, and reads it back.
    if (!("message" in (one as unknown as { readonly fields: object }).fields))
      expect(fields).not.toHaveProperty("message")
    const decoded = Schema.decodeUnknownSync(one)(fields)
    expect([decoded instanceof Error, decoded.message, Equal.equals(decoded.name, error.name)]).toEqual([
      true,
      message,
      true
    ])
    expect(Cause.pretty(Cause.fail(error))).toContain(message.split("\n")[0])
    expect(structuredClone(error)).toBeInstanceOf(Error)
  }
})
