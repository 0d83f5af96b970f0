/** The options of a server are declared once: a program and the configuration file take and refuse the same. */
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import { describe, expect, it } from "vitest"
import { decodeText } from "../../src/config/file.js"
import { server } from "../../src/config/server.js"
import * as Server from "../../src/Server.js"

const url = "http://a:11434"
const made = (options: object) => Server.fromOptions({ url, ...options } as Server.ServerOptions, "the test")
const inFile = (options: object) => decodeText(JSON.stringify({ servers: [{ url, ...options }] }), "config.json")
const refusal = (options: object) => {
  const { field, reason } = Either.getOrThrow(Either.flip(made(options)))
  return `${field}: ${reason}`
}

describe("the options of a server", () => {
  it.each([
    [{ weight: 0 }, "servers.weight: weight of http://a:11434 must be a number above 0"],
    [{ weight: "2" }, "servers.weight: weight of http://a:11434 must be a number"],
    [{ priority: 1.5 }, "servers.priority: priority of http://a:11434 must be a whole number"],
    [{ maxInFlight: 0 }, "servers.maxInFlight: maxInFlight of http://a:11434 must be a whole number from 1"],
    [{ local: "yes" }, "servers.local: local of http://a:11434 must be true or false"],
    [{ organization: 5 }, "servers.organization: organization of http://a:11434 must be a text"],
    [{ protocol: "gemini" }, "servers.protocol: protocol of http://a:11434 must be one of ollama, openai, anthropic"],
    [
      { location: { latitude: 100 } },
      "servers.location: latitude in the location of http://a:11434 must be a number between -90 and 90"
    ],
    [{ location: 5 }, "servers.location: location of http://a:11434 must be an object or a text"],
    [
      { location: "Berlin,," },
      "servers.location: location of http://a:11434: 'Berlin,,' must be a place, such as 'Berlin, DE' or 52.52,13.40"
    ],
    [{ headers: 5 }, "servers.headers: headers of http://a:11434 must be an object"],
    [{ headers: { "X-Tenant": 5 } }, "servers.headers: X-Tenant in the headers of http://a:11434 must be a text"],
    [{ apiKey: 5 }, "servers.apiKey: apiKey of http://a:11434 must be a text"],
    [{ url: 5 }, "servers.url: an address must be a text"],
    [{ url: undefined }, "servers.url: an address is missing"],
    [
      { max_in_flight: 1 },
      /^servers\.max_in_flight: there is no such option; did you mean maxInFlight\? There are url,/
    ],
    [{ colour: 1 }, /^servers\.colour: there is no such option; there are url, protocol,/]
  ])("%j is refused, in a program and in the file", (options, words) => {
    expect(refusal(options)).toMatch(words)
    expect(Either.isLeft(inFile(options))).toBe(true)
  })

  it("values that no file can hold are refused too", () => {
    expect(refusal({ weight: Number.POSITIVE_INFINITY })).toContain("must be a number above 0")
    expect(refusal({ priority: Number.NaN })).toContain("must be a whole number")
  })

  it("a value is never shown: it may be a key", () => {
    for (const options of [{ apiKey: ["sk-1"] }, { headers: { a: ["sk-1"] } }, { headers: ["sk-1"] }]) {
      expect(refusal(options)).not.toContain("sk-1")
    }
  })

  it("every declared option is accepted, and has an effect", () => {
    const all = {
      protocol: "openai",
      apiKey: "key",
      headers: { "X-Tenant": "blue" },
      location: "Berlin, DE",
      organization: "us",
      weight: 0.5,
      priority: -1,
      maxInFlight: 3,
      local: false,
      wake: "00:1B:44:11:3A:B7",
      wakeAddress: "192.0.2.255:9"
    }
    expect(Object.keys({ url, ...all })).toEqual(Object.keys(server))
    expect(Either.isRight(inFile(all))).toBe(true)
    const { authorization, headers, ...rest } = Either.getOrThrow(made(all))
    expect(authorization && Redacted.value(authorization)).toBe("Bearer key")
    expect(headers?.["x-tenant"] && Redacted.value(headers["x-tenant"])).toBe("blue")
    expect(rest).toMatchObject({
      url,
      protocol: "openai",
      location: { city: "Berlin", country: "DE" },
      organization: "us",
      weight: 0.5,
      priority: -1,
      maxInFlight: 3,
      local: false
    })
  })
})
