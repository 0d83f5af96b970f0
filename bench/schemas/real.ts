// Schemas as programs send them, each with a reply that fits.
import type { JsonObject } from "../../src/ChatRequest.js"

export interface Real {
  readonly name: string
  readonly schema: JsonObject
  readonly reply: unknown
}

const string = { type: "string" }
const number = { type: "number" }
const integer = { type: "integer" }
const boolean = { type: "boolean" }
const list = (items: JsonObject) => ({ type: "array", items })
const nullable = (type: string) => ({ type: [type, "null"] })
/** As OpenAI's structured output wants it: everything required, nothing else allowed. */
const strict = (properties: JsonObject): JsonObject => ({
  type: "object",
  properties,
  required: Object.keys(properties),
  additionalProperties: false
})
const times = <A>(n: number, one: (at: number) => A): Array<A> => Array.from({ length: n }, (_, at) => one(at))

const address = strict({
  street: string,
  city: string,
  zip: { type: "string", pattern: "^\\d{4,5}(-\\d{4})?$" },
  country: { enum: ["AT", "DE", "US"] }
})
const anAddress = { street: "Hauptstraße 1", city: "Wien", zip: "1010", country: "AT" }
const money = {
  type: "object",
  properties: {
    amount: { type: "number", multipleOf: 0.01, minimum: 0 },
    currency: { type: "string", pattern: "^[A-Z]{3}$" }
  },
  required: ["amount", "currency"]
}

const shapes: ReadonlyArray<(topic: string, size: number) => Real> = [
  (topic, size) => ({
    name: `${topic}: flat record`,
    schema: strict(
      Object.fromEntries(
        times(4 * size, (i) => [`${topic}_${i}`, [string, number, integer, boolean][i % 4] as JsonObject])
      )
    ),
    reply: Object.fromEntries(times(4 * size, (i) => [`${topic}_${i}`, ["text", 1.5, 3, true][i % 4]]))
  }),
  (topic, size) => ({
    name: `${topic}: nested objects`,
    schema: strict({
      [topic]: strict({
        id: { type: "string", format: "uuid" },
        owner: strict({ name: string, address, emails: list({ type: "string", format: "email" }) })
      })
    }),
    reply: { [topic]: { id: "3", owner: { name: "Ada", address: anAddress, emails: times(size, (i) => `a${i}@b.c`) } } }
  }),
  (topic, size) => ({
    name: `${topic}: classification`,
    schema: strict({
      label: { type: "string", enum: times(6 * size, (i) => `${topic}-${i}`) },
      confidence: { type: "number", minimum: 0, maximum: 1 },
      reasons: { ...list(string), minItems: 1, maxItems: 10 }
    }),
    reply: { label: `${topic}-1`, confidence: 0.93, reasons: ["It says so."] }
  }),
  (topic, size) => ({
    name: `${topic}: list of rows`,
    schema: strict({
      rows: list(
        strict({
          [topic]: string,
          value: number,
          note: nullable("string"),
          tags: { ...list(string), uniqueItems: true }
        })
      )
    }),
    reply: {
      rows: times(40 * size, (i) => ({
        [topic]: `row ${i}`,
        value: i / 4,
        note: i % 2 === 0 ? null : "x",
        tags: ["a", "b", `c${i}`]
      }))
    }
  }),
  (topic, size) => ({
    name: `${topic}: tree`,
    schema: {
      ...strict({ root: { $ref: "#/$defs/node" } }),
      $defs: { node: strict({ [topic]: string, children: list({ $ref: "#/$defs/node" }) }) }
    },
    reply: {
      root: times(10 * size, (i) => i).reduce<unknown>(
        (children, i) => ({ [topic]: `n${i}`, children: [children, { [topic]: "leaf", children: [] }] }),
        { [topic]: "leaf", children: [] }
      )
    }
  }),
  (topic, size) => ({
    name: `${topic}: one of several steps`,
    schema: strict({
      steps: list({
        anyOf: times(2 + size, (i) =>
          strict({ kind: { type: "string", const: `${topic}${i}` }, argument: string, retries: integer })
        )
      })
    }),
    reply: { steps: times(12 * size, (i) => ({ kind: `${topic}${i % (2 + size)}`, argument: "x", retries: i })) }
  }),
  (topic, size) => ({
    name: `${topic}: order`,
    schema: {
      $schema: "http://json-schema.org/draft-07/schema#",
      definitions: { money, address },
      type: "object",
      properties: {
        [topic]: string,
        shipTo: { $ref: "#/definitions/address" },
        lines: {
          type: "array",
          minItems: 1,
          items: {
            type: "object",
            properties: {
              sku: { type: "string", pattern: "^[A-Z0-9-]{3,20}$" },
              quantity: { type: "integer", minimum: 1 },
              price: { $ref: "#/definitions/money" }
            },
            required: ["sku", "quantity", "price"]
          }
        }
      },
      required: [topic, "lines"]
    },
    reply: {
      [topic]: "A-1",
      shipTo: anAddress,
      lines: times(10 * size, (i) => ({ sku: `SKU-${i}`, quantity: i + 1, price: { amount: 19.5, currency: "EUR" } }))
    }
  }),
  (topic, size) => ({
    name: `${topic}: form with conditions`,
    schema: {
      type: "object",
      properties: {
        type: { enum: ["person", "company"] },
        [topic]: string,
        vat: { type: "string", minLength: 4, maxLength: 20 },
        birth: { type: "string", pattern: "^\\d{4}-\\d{2}-\\d{2}$" }
      },
      required: ["type"],
      allOf: times(size, () => ({
        if: { properties: { type: { const: "company" } } },
        // biome-ignore lint/suspicious/noThenProperty: a keyword.
        then: { required: ["vat"] },
        else: { required: ["birth"] }
      })),
      dependentRequired: { vat: [topic] }
    },
    reply: { type: "company", [topic]: "ACME", vat: "ATU123" }
  }),
  (topic, size) => ({
    name: `${topic}: map by name`,
    schema: {
      type: "object",
      patternProperties: {
        [`^${topic}_\\w+$`]: { type: "object", properties: { min: number, max: number }, required: ["min", "max"] }
      },
      propertyNames: { maxLength: 40 },
      additionalProperties: false,
      minProperties: 1
    },
    reply: Object.fromEntries(times(15 * size, (i) => [`${topic}_${i}`, { min: 0, max: i }]))
  }),
  (topic, size) => ({
    name: `${topic}: extended base`,
    schema: {
      $defs: { base: { type: "object", properties: { id: integer, created: string }, required: ["id"] } },
      type: "array",
      items: {
        allOf: [
          { $ref: "#/$defs/base" },
          { properties: { [topic]: string, scores: { type: "array", prefixItems: [number, number], items: integer } } }
        ],
        unevaluatedProperties: false
      }
    },
    reply: times(10 * size, (i) => ({ id: i, created: "now", [topic]: "x", scores: [0.5, 1.5, 3, 4] }))
  })
]

export const real: ReadonlyArray<Real> = ["invoice", "patient", "recipe", "ticket", "sensor"].flatMap((topic, at) =>
  shapes.map((shape) => shape(topic, at + 1))
)
