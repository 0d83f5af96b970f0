import { describe, expect, it } from "vitest"
import { failure, useFleet } from "../support/fleet.js"

const fleet = useFleet()
const texts = ["one", "two", "three", "four"]

describe.each(["ollama", "openai"] as const)("concurrent first calls of a new fleet (%s)", (protocol) => {
  const made = async () => {
    const server = await fleet[protocol]({ models: ["a:1b"], reply: "well" })
    return { server, cortex: fleet.cortex([{ url: server.url, maxInFlight: 1 }], { model: "a:1b" }) }
  }
  const asked = (server: { readonly chatRequests: ReadonlyArray<{ readonly body: unknown }> }) =>
    server.chatRequests.flatMap(({ body }) => texts.filter((text) => JSON.stringify(body).includes(`"${text}"`)))

  it("are served in the order in which they were made", async () => {
    const { cortex, server } = await made()
    await Promise.all(texts.map((text) => cortex.chat(text)))
    expect(asked(server)).toEqual(texts)
  })

  it("control: later calls are, too", async () => {
    const { cortex, server } = await made()
    await cortex.chat("zero")
    await Promise.all(texts.map((text) => cortex.chat(text)))
    expect(asked(server)).toEqual(texts)
  })

  it("can be aborted one by one", async () => {
    const { cortex, server } = await made()
    const leaving = new AbortController()
    const outcomes = texts.map((text) =>
      cortex.chat(text, text === "one" ? { signal: leaving.signal } : {}).then(
        () => "answered",
        (error: Error) => error.name
      )
    )
    leaving.abort()
    expect(await Promise.all(outcomes)).toEqual(["AbortError", "answered", "answered", "answered"])
    expect(asked(server)).toEqual(texts.slice(1))
  })
})

it("each call of a fleet with invalid settings fails", async () => {
  const cortex = fleet.cortex([], { remoteTokensPerDay: 0 })
  const errors = await Promise.all([cortex.chat("one"), cortex.chat("two")].map(failure))
  expect(errors.map(({ _tag }) => _tag)).toEqual(["InvalidConfig", "InvalidConfig"])
})
