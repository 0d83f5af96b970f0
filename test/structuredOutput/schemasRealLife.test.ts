import { Ajv } from "ajv"
import { Ajv2020 } from "ajv/dist/2020.js"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { describe, expect, it } from "vitest"
import { real } from "../../bench/schemas/real.js"
import * as StructuredOutput from "../../src/StructuredOutput.js"

const median = (samples: ReadonlyArray<number>): number =>
  [...samples].sort((a, b) => a - b)[samples.length >> 1] as number

const timed = async <A>(work: () => A | Promise<A>): Promise<readonly [A, number]> => {
  const began = performance.now()
  const made = await work()
  return [made, performance.now() - began]
}

describe("schemas of real programs", () => {
  it("match their replies, in negligible time", async () => {
    expect(real).toHaveLength(50)
    const figuresOf = {
      compile: [] as Array<number>,
      check: [] as Array<number>,
      first: [] as Array<number>,
      again: [] as Array<number>
    }
    const options = {
      strict: false,
      allErrors: true,
      validateFormats: false,
      multipleOfPrecision: 9,
      logger: false
    } as const
    const draft07 = new Ajv(options)
    const draft2020 = new Ajv2020(options)
    for (const { name, reply, schema } of real) {
      const text = JSON.stringify(reply)
      const [decoder, compile] = await timed(() => Effect.runPromise(StructuredOutput.fromJsonSchema(schema)))
      const [decoded, check] = await timed(() => decoder.decode(text))
      expect(Either.isRight(decoded), `${name}: ${JSON.stringify(decoded)}`).toBe(true)
      // A reply with something missing does not fit.
      expect(Either.isLeft(decoder.decode("17")), name).toBe(true)
      figuresOf.compile.push(compile)
      figuresOf.check.push(check)
      // As the same schema is given to ajv, which makes code of it.
      const ajv = "$schema" in schema ? draft07 : draft2020
      const [validate, first] = await timed(() => ajv.compile(schema))
      const [valid, again] = await timed(() => validate(JSON.parse(text)))
      expect(valid, name).toBe(true)
      figuresOf.first.push(first)
      figuresOf.again.push(again)
    }
    const sum = (values: ReadonlyArray<number>) => values.reduce((all, one) => all + one, 0)
    // Compiled once per schema, and checked once per reply: together it is less than compiling them with ajv.
    expect(sum(figuresOf.compile) + sum(figuresOf.check)).toBeLessThan(sum(figuresOf.first) + sum(figuresOf.again))
    expect(median(figuresOf.check)).toBeLessThan(20)
  })
})
