/** Ranges, choices and defaults of flags are those of the options' declaration: neither is said twice. */
import * as CliConfig from "@effect/cli/CliConfig"
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as Options from "@effect/cli/Options"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as AST from "effect/SchemaAST"
import { describe, expect, it } from "vitest"
import * as ChatRequest from "../../../src/ChatRequest.js"
import { options } from "../../../src/cli/chat/flags.js"
import { parameters } from "../../../src/cli/chat/interactive/parameters.js"
import { options as embedOptions } from "../../../src/cli/embed/flags.js"
import { flagOf } from "../../../src/cli/errors.js"
import { aboutOf } from "../../../src/cli/flags.js"
import { withoutEscapes } from "../../../src/cli/output.js"
import { options as serverOptions } from "../../../src/cli/servers/addFlags.js"

interface Range {
  readonly type?: string
  readonly minimum?: number
  readonly maximum?: number
  readonly exclusiveMinimum?: number
}

const rangeOf = (option: (typeof ChatRequest.sampling)[number]): Range =>
  Option.getOrElse(AST.getJSONSchemaAnnotation(ChatRequest.Options.fields[option].from.ast), () => ({}))

const words = (doc: HelpDoc.HelpDoc): string =>
  withoutEscapes(HelpDoc.toAnsiText(doc))
    .replace(/[ \n]+/g, " ")
    .trim()

/** The value of a flag, or what is wrong with it. */
const given = (flag: Options.Options<unknown>, name: string, value: string): Promise<unknown> =>
  Options.processCommandLine(flag, [name, value], CliConfig.defaultConfig).pipe(
    Effect.map(([error, , parsed]) => (Option.isSome(error) ? words(error.value.error) : parsed)),
    Effect.catchAll(({ error }) => Effect.succeed(words(error))),
    Effect.provide(NodeContext.layer),
    Effect.runPromise
  )

describe.each(ChatRequest.sampling)("the flag of %s", (option) => {
  const flag = options[option]
  const name = flagOf(option)
  const { exclusiveMinimum, maximum, minimum, type } = rangeOf(option)

  it("shows the range and the default of the option, also in /set", () => {
    const about = aboutOf(flag, name)
    if (minimum !== undefined && maximum !== undefined) expect(about).toContain(`${minimum} to ${maximum}`)
    if (exclusiveMinimum !== undefined) expect(about).toContain(`Above ${exclusiveMinimum}`)
    const otherwise = (ChatRequest.defaults as { readonly [name: string]: unknown })[option]
    if (otherwise !== undefined) expect(about).toContain(`default ${otherwise}`)
    expect(parameters.find((one) => `--${one.name}` === name)?.about).toBe(about)
  })

  it("accepts the same values as the option, with the same errors", async () => {
    const values = [minimum, maximum, exclusiveMinimum, 1, 0.5, -3, -1, 0, 2.5, 1e9].filter((one) => one !== undefined)
    const outside = [
      ...(minimum === undefined ? [] : [minimum - 1]),
      ...(maximum === undefined ? [] : [maximum + 1]),
      ...(type === "integer" ? [1.5] : [])
    ]
    for (const value of [...values, ...outside]) {
      const checked = ChatRequest.decodeOptions({ [option]: value })
      const expected = Either.match(checked, {
        onLeft: ({ reason }) => `${name} ${reason}, not '${value}'`,
        onRight: () => value
      })
      expect(await given(flag, name, String(value))).toBe(expected)
    }
    for (const value of outside) expect(await given(flag, name, String(value))).toMatch(/must be/)
    for (const text of ["", "many", "1,5", "0x"]) {
      expect(await given(flag, name, text)).toBe(`${name} must be a number, not '${text}'`)
    }
  })
})

describe("other flags of options", () => {
  it.each([
    [options.think, "--think", "max", "max"],
    [options.think, "--think", "on", true],
    [options.think, "--think", "most", "--think must be one of on, off, low, medium, high, max, not 'most'"],
    [options.onInterrupt, "--on-interrupt", "restart", "restart"],
    [options.onInterrupt, "--on-interrupt", "stop", "--on-interrupt must be one of resume, restart, fail, not 'stop'"],
    [options.timeout, "--timeout", "1.5", 1500],
    [options.timeout, "--timeout", "0", "--timeout must be a number of seconds above 0, not '0'"],
    [options.deadline, "--deadline", "Infinity", "--deadline must be a number of seconds above 0, not 'Infinity'"],
    [options.cacheTtl, "--cache-ttl", "-1", "--cache-ttl must be a number of seconds above 0, not '-1'"],
    [options.maxRetries, "--max-retries", "0", "--max-retries must be a whole number from 1, not '0'"],
    [options.keepAlive, "--keep-alive", "-1", -1],
    [options.keepAlive, "--keep-alive", "1h30m", "1h30m"],
    [
      options.keepAlive,
      "--keep-alive",
      "soon",
      "--keep-alive must be a number of seconds, or a duration such as 5m or 1h30m, not 'soon'"
    ],
    [embedOptions.dimensions, "--dimensions", "0", "--dimensions must be a whole number from 1, not '0'"],
    [serverOptions.weight, "--weight", "0", "--weight must be a number above 0, not '0'"],
    [serverOptions.priority, "--priority", "-2", -2],
    [serverOptions.priority, "--priority", "1.5", "--priority must be a whole number, not '1.5'"],
    [serverOptions.maxInFlight, "--max-in-flight", "0", "--max-in-flight must be a whole number from 1, not '0'"],
    [
      serverOptions.protocol,
      "--protocol",
      "gemini",
      "--protocol must be one of ollama, openai, anthropic, not 'gemini'"
    ]
  ])("%# %s %s", async (flag, name, text, expected) => {
    expect(await given(flag, name as string, text as string)).toBe(expected)
  })

  it("show their range and default", () => {
    expect(aboutOf(serverOptions.weight, "--weight")).toBe("Its share of the traffic. Above 0, default 1.")
    expect(aboutOf(serverOptions.priority, "--priority")).toBe("Lower is tried first. Default: 0.")
    expect(aboutOf(options.onInterrupt, "--on-interrupt")).toMatch(/Default: resume\.$/)
  })
})
