import { describe, expect, it } from "vitest"
import { failure, model, useFleet } from "./support/fleet.js"

const fleet = useFleet()

describe("nearest without coordinates", () => {
  it.each([
    [{ country: "DE" }, { country: "JP" }],
    [{ city: "Frankfurt", country: "Germany" }, { city: "Tokyo" }],
    [{ city: "Nowhere an der Spree", country: "Deutschland" }, { countryName: "Japan" }],
    [{ country: "DEU" }, { city: "Tokyo", country: "JPN" }]
  ])("from Berlin it is %j, not %j", async (near, far) => {
    const [a, b] = await Promise.all([fleet.ollama(), fleet.openai()])
    for (const location of [{ city: "Berlin" }, { city: "Berlin", country: "DE" }, { country: "germany" }]) {
      const cortex = fleet.cortex(
        [
          { url: b.url, location: far },
          { url: a.url, location: near }
        ],
        { location }
      )
      expect((await cortex.bestServer(model, { strategy: "nearest" })).url).toBe(a.url)
    }
  })

  it.each([
    [{ country: "Germani" }, "Germany"],
    [{ city: "Berlim" }, "Berlin"]
  ])("an unknown place of one's own is refused: %j", async (location, suggestion) => {
    const error = await failure(fleet.cortex([await fleet.ollama()], { location }).chat("Hi"))
    expect(error).toMatchObject({ _tag: "InvalidConfig", field: "location" })
    expect(error.message).toContain(suggestion)
  })
})
