import { describe, expect, it } from "vitest"
import { useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const fleet = useFleet()

const value = "looking for beginning of value"
const key = "looking for beginning of object key string"

/** Bodies, the character that Go names, and where it stands. */
const broken: ReadonlyArray<readonly [body: string, character: string, where: string]> = [
  ["<html>", "<", value],
  ["hello", "h", value],
  ["// a comment\n{}", "/", value],
  ['{"model":}', "}", value],
  ['{"model":+1}', "+", value],
  ['{"model":.5}', ".", value],
  ["{\"model\":'x'}", "\\'", value],
  ['{"model":NaN}', "N", value],
  ['{"messages":[1,]}', "]", value],
  ['{"messages":[,1]}', ",", value],
  ["\u00a0{}", "Â", value],
  ["\ufeff{}", "ï", value],
  ["€", "â", value],
  ["😀", "ð", value],
  ["{model:1}", "m", key],
  ["{,}", ",", key],
  ["{1:2}", "1", key],
  ['{"model":"x",}', "}", key],
  ['{"model" "x"}', '"', "after object key"],
  ['{"model"}', "}", "after object key"],
  ['{"model":"x" "stream":true}', '"', "after object key:value pair"],
  ['{"model":"x"; "stream":true}', ";", "after object key:value pair"],
  ['{"model":"x"/* a comment */}', "/", "after object key:value pair"],
  ['{"options":{"seed":01}}', "1", "after object key:value pair"],
  ['{"messages":[1 2]}', "2", "after array element"],
  ['{"messages":[{}}]}', "}", "after array element"],
  ['{"model":"x"} x', "x", "after top-level value"],
  ['{"model":"x"}}', "}", "after top-level value"],
  ['"x""y"', '"', "after top-level value"],
  ['{"prompt":"one\ntwo"}', "\\n", "in string literal"],
  ['{"prompt":"one\ttwo"}', "\\t", "in string literal"],
  ['{"prompt":"\u0001"}', "\\x01", "in string literal"],
  ['{"prompt":"\\q"}', "q", "in string escape code"],
  ['{"prompt":"C:\\é"}', "Ã", "in string escape code"],
  ['{"prompt":"\\u12g4"}', "g", "in \\u hexadecimal character escape"],
  ['{"prompt":"\\u12"}', '"', "in \\u hexadecimal character escape"],
  ['{"seed":-}', "}", "in numeric literal"],
  ['{"seed":-x}', "x", "in numeric literal"],
  ['{"seed":1.}', "}", "after decimal point in numeric literal"],
  ['{"seed":1e}', "}", "in exponent of numeric literal"],
  ['{"seed":1e+ }', " ", "in exponent of numeric literal"],
  ['{"stream":tru}', "}", "in literal true (expecting 'e')"],
  ['{"stream":True}', "T", value],
  ['{"stream":fail}', "i", "in literal false (expecting 'l')"],
  ['{"stream":nil}', "i", "in literal null (expecting 'u')"],
  ['{"stream":truest}', "s", "after object key:value pair"]
]

/** Bodies that end too soon. */
const cutOff = [
  "{",
  "  {  ",
  "[",
  '"',
  '{"model',
  '{"model"',
  '{"model":',
  '{"model":"x"',
  '{"model":"x",',
  '{"model":"x\\',
  '{"model":"x\\u1',
  '{"seed":-',
  '{"seed":1.',
  '{"seed":1e',
  '{"stream":tr',
  '{"messages":[{"role":"user"',
  "nul",
  "[[[[[["
]

describe("invalid JSON bodies, with Ollama's messages", () => {
  it.each(["/api/chat", "/api/generate", "/api/embed"])("at %s", async (path) => {
    const server = await fleet.ollama({ models: ["x:1b"] })
    const gateway = fleet.keep(await startGateway([server.url]))
    const answer = async (body: string) => {
      const response = await fetch(`${gateway.url}${path}`, { method: "POST", body })
      const { request_id: _, ...rest } = (await response.json()) as Record<string, unknown>
      return [body, response.status, rest]
    }
    for (const [body, character, where] of broken) {
      expect(await answer(body)).toEqual([body, 400, { error: `invalid character '${character}' ${where}` }])
    }
    for (const body of cutOff) expect(await answer(body)).toEqual([body, 400, { error: "unexpected EOF" }])
    // As deep as the parser goes, and long.
    expect(await answer("[".repeat(20_000))).toEqual([expect.any(String), 400, { error: "unexpected EOF" }])
    const long = `{"model":"x:1b","prompt":"${"x".repeat(1_000_000)}" 1}`
    expect(await answer(long)).toEqual([long, 400, { error: "invalid character '1' after object key:value pair" }])
    expect(server.chatRequests).toHaveLength(0)
  })

  it("control: valid JSON is answered, however it is written", async () => {
    const server = await fleet.ollama({ models: ["x:1b"], reply: "well said" })
    const gateway = fleet.keep(await startGateway([server.url]))
    const body =
      ' \n{"model" :\t"x:1b","prompt":"\\u00e9\\n\\"€😀","stream":false,"options":{"seed":-0,"top_p":1.5e-1}}\r\n '
    const response = await fetch(`${gateway.url}/api/generate`, { method: "POST", body })
    expect([response.status, await response.json()]).toMatchObject([200, { response: "well said" }])
  })
})
