/** What each face gives for each state of the fleet, where no model is configured. `table.txt` is the table as printed. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { beforeAll, describe, expect, it } from "vitest"
import * as Chat from "../../src/Chat.js"
import * as CortexLayer from "../../src/Cortex.js"
import { build, type Ended, makeHome } from "../support/cliProcess.js"
import { unusedPort } from "../support/fakeServer.js"
import { useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const fleet = useFleet()
beforeAll(build, 120_000)

const prompt = "Return the capital and population of Germany as JSON."
const answer = `{"capital":"Berlin","population":84000000}`
const schema = {
  type: "object",
  properties: { capital: { type: "string" }, population: { type: "integer" } },
  required: ["capital", "population"]
}
const faces = ["chat", "chat --schema", "interactive", "Promise", "Effect", "gateway"] as const
type Face = (typeof faces)[number]
type Protocol = "ollama" | "openai"

interface State {
  readonly servers: ReadonlyArray<string>
  /** The model that is asked for; default: none. */
  readonly model?: string
}

/** What a face gave: its exit code, or its HTTP status; nothing for the library. */
interface Outcome {
  readonly ok: boolean
  readonly code: number | null | undefined
  readonly words: string
}

const ofProcess = ({ code, err, out }: Ended): Outcome => ({ ok: code === 0, code, words: `${out}${err}` })

const ofLibrary = async (answered: Promise<{ readonly text: string; readonly model: string }>): Promise<Outcome> =>
  answered.then(
    ({ model, text }) => ({ ok: true, code: undefined, words: `${text} (${model})` }),
    (error) => ({ ok: false, code: undefined, words: `${error._tag}: ${error.message}` })
  )

const ask: { readonly [F in Face]: (state: State) => Promise<Outcome> } = {
  chat: (state) => inTerminal(state, ["chat", prompt]),
  "chat --schema": (state) => inTerminal(state, ["chat", prompt, "--schema", "city.schema.json"]),
  interactive: (state) => inTerminal(state, ["chat", "--interactive"], `${prompt}\n`),
  Promise: ({ model, servers }) =>
    ofLibrary(fleet.cortex(servers, { model: undefined }).complete(prompt, { model, temperature: 0 })),
  Effect: ({ model, servers }) => {
    const layer = CortexLayer.layer({ servers, configFile: false })
    const answered = Effect.either(Effect.provide(Chat.complete(prompt, { model, temperature: 0 }), layer))
    return ofLibrary(
      Effect.runPromise(answered).then((result) =>
        Either.isRight(result) ? result.right : Promise.reject(result.left)
      )
    )
  },
  gateway: async ({ model, servers }) => {
    const gateway = fleet.keep(await startGateway(servers))
    const messages = [{ role: "user", content: prompt }]
    const response = await gateway.post("/v1/chat/completions", { model, messages, temperature: 0 })
    const body = (await response.json()) as {
      readonly model?: string
      readonly choices?: ReadonlyArray<{ readonly message: { readonly content: string } }>
      readonly error?: { readonly message: string }
    }
    const words = body.error?.message ?? `${body.choices?.[0]?.message.content} (${body.model})`
    return { ok: response.ok, code: response.status, words }
  }
}

const inTerminal = async ({ model, servers }: State, args: ReadonlyArray<string>, input?: string) => {
  const home = fleet.keep(makeHome({ servers }))
  const file = home.write("schema.json", JSON.stringify(schema))
  const words = args.map((arg) => (arg === "city.schema.json" ? file : arg))
  return ofProcess(
    await home.run([...words, "--temperature", "0", ...(model === undefined ? [] : ["-m", model])], {}, input)
  )
}

const dead = async () => `http://127.0.0.1:${await unusedPort()}`

interface Row {
  readonly state: (protocol: Protocol) => Promise<State>
  readonly ok: boolean
  /** The exit code of the terminal, and the status of the gateway. */
  readonly codes: readonly [exit: number, status: number]
  /** What must be among the words of each face; the gateway does not tell addresses. */
  readonly words: (servers: ReadonlyArray<string>, face: Face) => ReadonlyArray<string>
}

const rows: { readonly [name: string]: Row } = {
  "no server": {
    state: async () => ({ servers: [] }),
    ok: true,
    codes: [0, 200],
    words: (_, face) => ["Berlin", "aicortex-demo", ...(isTerminal(face) ? ["no server is known"] : [])]
  },
  "one with another model": {
    state: async (protocol) => ({
      servers: [(await fleet[protocol]({ models: ["other:1b"], reply: answer })).url]
    }),
    ok: true,
    codes: [0, 200],
    words: () => ["Berlin", "other:1b"]
  },
  "two dead": {
    state: async () => ({ servers: [await dead(), await dead()] }),
    ok: false,
    codes: [1, 503],
    words: (servers, face) =>
      (face === "gateway" ? ["server-1", "server-2"] : servers).flatMap((server) => [server, "refused the connection"])
  },
  "one unreachable, one up": {
    state: async (protocol) => ({
      servers: [await dead(), (await fleet[protocol]({ models: ["other:1b"], reply: answer })).url]
    }),
    ok: true,
    codes: [0, 200],
    words: () => ["Berlin", "other:1b"]
  },
  "misspelt model": {
    state: async (protocol) => ({
      servers: [(await fleet[protocol]({ models: ["other:1b"], reply: answer })).url],
      model: "othr:1b"
    }),
    ok: false,
    codes: [1, 404],
    words: () => ["othr:1b", "Did you mean other:1b?"]
  }
}

const isTerminal = (face: Face): boolean => face.startsWith("chat") || face === "interactive"

const lines: Array<string> = []

/** Addresses as the table names them. */
const withoutPorts = (words: string, servers: ReadonlyArray<string>): string =>
  servers
    .reduce((text, server, at) => text.replaceAll(server, `http://server-${at + 1}`), words)
    .replace(/\s+/g, " ")
    .trim()

describe("first minutes", () => {
  const live = (name: string): ReadonlyArray<Protocol> =>
    name === "no server" || name === "two dead" ? ["ollama"] : ["ollama", "openai"]
  const cases = Object.entries(rows).flatMap(([name, row]) =>
    live(name).map((protocol) => [name, protocol, row] as const)
  )

  it.each(cases)(
    "%s (%s)",
    async (name, protocol, row) => {
      const state = await row.state(protocol)
      for (const face of faces) {
        const { code, ok, words } = await ask[face](state)
        const expected = face === "gateway" ? row.codes[1] : isTerminal(face) ? row.codes[0] : undefined
        expect({ face, ok, code, words }).toMatchObject({ face, ok: row.ok, code: expected })
        for (const word of row.words(state.servers, face)) expect(words).toContain(word)
        if (!row.ok) expect(words).not.toContain("Berlin")
        if (protocol === "openai") continue
        const shown = [ok ? "answer" : "error", code === undefined ? "" : String(code)]
        lines.push([name, face, ...shown, withoutPorts(words, state.servers)].join(" | "))
      }
    },
    300_000
  )

  it("prints the documented table", async () => {
    // Only a whole table is compared.
    if (lines.length < Object.keys(rows).length * faces.length) return
    const head = "fleet | face | outcome | exit code or status | words"
    await expect(`${[head, ...lines].join("\n")}\n`).toMatchFileSnapshot("table.txt")
  })
})
