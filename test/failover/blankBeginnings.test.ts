import { describe, expect, it } from "vitest"
import { eventsOf, inOrder, textOf, useFleet } from "../support/fleet.js"

const fakes = useFleet()
const beginnings = [["\n"], ["\n\n"], [" ", " "], ["\t", "\n"]].map((blank) => ({ blank }))

describe.each(["ollama", "old ollama", "openai", "llamacpp", "vllm"] as const)("an answer is resumed at %s", (kind) => {
  const start = (reply: ReadonlyArray<string>) =>
    kind === "ollama" || kind === "old ollama"
      ? fakes.ollama({ reply, debugRender: kind === "ollama" })
      : fakes.openai({ reply, flavour: kind })

  it.each(beginnings)("after leading white space, which is not repeated: $blank", async ({ blank }) => {
    const words = [...blank, "one", " two", "\n", " three"]
    const broken = await fakes.openai({ reply: words, faults: { kind: "cut", after: blank.length } })
    const fleet = fakes.cortex(inOrder(broken, await start(words)))
    await fleet.listServers()
    const events = await eventsOf(await fleet.chat("q", { stream: true, temperature: 0 }))
    expect(textOf(events)).toBe(words.join(""))
    expect(events.filter(({ type }) => type === "error")).toHaveLength(1)
  })

  it("after words", async () => {
    const words = ["\n", "one", " two", "\n", " three"]
    const broken = await fakes.openai({ reply: words, faults: { kind: "cut", after: 2 } })
    const fleet = fakes.cortex(inOrder(broken, await start(words)))
    await fleet.listServers()
    expect(textOf(await eventsOf(await fleet.chat("q", { stream: true, temperature: 0 })))).toBe(words.join(""))
  })
})
