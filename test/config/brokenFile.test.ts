/** A configuration file that is no JSON: its error has line and column, whatever the engine's message is. */
import * as Either from "effect/Either"
import { describe, expect, it } from "vitest"
import { decodeText } from "../../src/config/file.js"

const refusal = (text: string) => {
  const { field, reason } = Either.getOrThrow(Either.flip(decodeText(text, "config.json")))
  return `${field}: ${reason}`
}

const at = (line: number, column: number) =>
  `content: is not a JSON object of settings (line ${line}, column ${column})`

describe("a configuration file that is not JSON", () => {
  it.each([
    ["a comma after the last member", '{\n  "model": "m",\n}', 3, 1],
    ["a missing comma", '{\n  "model": "m"\n  "parallel": 2\n}', 3, 3],
    ["a missing colon", '{ "model" "m" }', 1, 11],
    ["an unknown word", '{\n  "cache": yes\n}', 2, 12],
    ["a word that breaks off", '{\r\n  "cache": tru\r\n}', 2, 12],
    ["a name without quotes", "{ model: 1 }", 1, 3],
    ["single quotes", "{\n\n'model': 'm' }", 3, 1],
    ["a comment", '{\n  // mine\n  "model": "m"\n}', 2, 3],
    ["a comma after the last item", '{ "servers": ["http://a",] }', 1, 26],
    ["a text without an end", '{\n  "model": "m\n}', 2, 12],
    ["a number with leading zeros", '{ "parallel": 02 }', 1, 16],
    ["NaN", '{ "parallel": NaN }', 1, 15],
    ["the end before a brace", '{ "servers": [', 1, 15],
    ["something after the end", "{}\n{}", 2, 1],
    ["YAML", "model: m\n", 1, 1],
    ["nothing", "", 1, 1]
  ])("with %s: the error has line and column", (_, text, line, column) => {
    expect(refusal(text)).toBe(at(line, column))
  })

  it("the error does not show the content", () => {
    expect(refusal('{ "servers": [{ "url": "http://a", "apiKey": sk-secret }] }')).toBe(at(1, 46))
  })

  it("that is nested too deeply is refused without a position", () => {
    expect(refusal("[".repeat(1_000_000))).toMatch(/^content: is not a JSON object of settings/)
  })

  it("the error has no position if it is JSON, but not an object", () => {
    for (const text of ["[]", "5", '"model"', "null"]) expect(refusal(text)).not.toMatch(/line|column/)
  })

  it("the error differs from that of an invalid setting", () => {
    expect(refusal('{ "parallel": 0 }')).toBe("parallel: must be a whole number from 1")
    expect(Either.isRight(decodeText('{ "parallel": 2 }', "config.json"))).toBe(true)
  })
})
