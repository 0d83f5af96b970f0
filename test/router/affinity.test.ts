import { describe, expect, it } from "vitest"
import * as Prng from "../../src/internal/prng.js"
import * as Message from "../../src/Message.js"
import * as ConversationKey from "../../src/router/conversationKey.js"
import { type Fake, model, useFleet } from "../support/fleet.js"
import { startGateway as startGatewayOf, type TestGateway } from "../support/gateway.js"
import type { Json } from "../support/script.js"

const fleet = useFleet()
const { keep } = fleet

type SendTurn = (conversation: number, turn: number) => Promise<unknown>

const startGateway = (fakes: ReadonlyArray<Fake>, options: Parameters<typeof startGatewayOf>[1] = {}) =>
  startGatewayOf(
    fakes.map(({ url }) => url),
    options
  )

const conversations = 8
const turns = 20

/** What all conversations of an agent begin with. */
const system = "You are a careful agent. ".repeat(40)

const question = (conversation: number, turn: number) => `question ${conversation}.${turn}`
const said = "An answer."

const history = (conversation: number, turn: number): Array<Json> => [
  ...Array.from({ length: turn }, (_, i) => [
    { role: "user", content: question(conversation, i) },
    { role: "assistant", content: said }
  ]).flat(),
  { role: "user", content: question(conversation, turn) }
]

/** Which server was asked, by the question. */
const places = (fakes: ReadonlyArray<Fake>) => {
  const found = new Map<string, number>()
  fakes.forEach((fake, at) => {
    for (const { body } of fake.chatRequests) {
      const text = JSON.stringify(body.messages.at(-1))
      found.set(/question (\d+\.\d+)/.exec(text)?.[1] ?? "", at)
    }
  })
  return found
}

/** How often a conversation went to another server than at its turn before. */
const changes = (fakes: ReadonlyArray<Fake>): number => {
  const found = places(fakes)
  let count = 0
  for (let c = 0; c < conversations; c++) {
    for (let t = 1; t < turns; t++) if (found.get(`${c}.${t}`) !== found.get(`${c}.${t - 1}`)) count++
  }
  return count
}

/** One turn after the other, of whichever conversation chance says. */
const interleaved = async (ask: SendTurn, seed = 1) => {
  const random = Prng.make(seed)
  const next = new Array<number>(conversations).fill(0)
  for (;;) {
    const left = next.flatMap((turn, c) => (turn < turns ? [c] : []))
    const c = left[Math.floor(random() * left.length)]
    if (c === undefined) return
    await ask(c, next[c] ?? 0)
    next[c] = (next[c] ?? 0) + 1
  }
}

const both = async () => [await fleet.openai({ reply: said }), await fleet.ollama({ reply: said })]

const posted = async (gateway: TestGateway, path: string, body: Json, headers: Record<string, string> = {}) => {
  const reply = await gateway.post(path, body, { headers })
  const text = await reply.text()
  expect(reply.status, text).toBe(200)
}

const chat = (messages: ReadonlyArray<Json>, more: Json = {}) => ({ model, messages, ...more })
const only = (c: number, t: number) => [{ role: "user", content: question(c, t) }]
const id = (c: number) => `3f0c8a52-0000-4000-8000-00000000000${c}`

/** Path, body and headers of each way to name a conversation; without its name nothing would tell it from others. */
const namings: Record<string, (c: number, t: number) => [string, Json, Record<string, string>?]> = {
  "the session of Claude Code, in a header": (c, t) => [
    "/v1/messages",
    { model, max_tokens: 100, messages: only(c, t) },
    { "x-claude-code-session-id": id(c) }
  ],
  "X-Session-Id": (c, t) => ["/v1/chat/completions", chat(only(c, t)), { "x-session-id": id(c) }],
  "X-Session-Affinity": (c, t) => ["/api/chat", chat(only(c, t), { stream: false }), { "x-session-affinity": id(c) }],
  prompt_cache_key: (c, t) => ["/v1/chat/completions", chat(only(c, t), { prompt_cache_key: id(c), user: "all" })],
  "prompt_cache_key of /v1/responses": (c, t) => [
    "/v1/responses",
    { model, input: question(c, t), prompt_cache_key: id(c), stream: true }
  ],
  "metadata.session_id": (c, t) => ["/v1/chat/completions", chat(only(c, t), { metadata: { session_id: id(c) } })],
  "the session in Claude Code's user id": (c, t) => [
    "/v1/messages",
    {
      model,
      max_tokens: 100,
      stream: true,
      messages: only(c, t),
      metadata: { user_id: JSON.stringify({ device_id: "d", account_uuid: "", session_id: id(c) }) }
    }
  ],
  "the session in the user id of its older versions": (c, t) => [
    "/v1/messages",
    {
      model,
      max_tokens: 100,
      messages: only(c, t),
      metadata: { user_id: `user_${"a".repeat(64)}_account__session_${id(c)}` }
    }
  ],
  user: (c, t) => ["/v1/chat/completions", chat(only(c, t), { user: `user-${c}` })]
}

/** How histories are sent where nobody names them. */
const histories: Record<string, (c: number, t: number) => [string, Json]> = {
  "/v1/chat/completions": (c, t) => [
    "/v1/chat/completions",
    chat([{ role: "system", content: system }, ...history(c, t)])
  ],
  "/v1/chat/completions, as a stream": (c, t) => [
    "/v1/chat/completions",
    chat([{ role: "developer", content: system }, ...history(c, t)], { stream: true })
  ],
  "/v1/messages": (c, t) => ["/v1/messages", { model, max_tokens: 100, system, messages: history(c, t) }],
  "/v1/messages, with a line that is new each time": (c, t) => [
    "/v1/messages",
    {
      model,
      max_tokens: 100,
      system: [
        { type: "text", text: `x-anthropic-billing-header: cc_version=1.${c}.${t}; cch=${c * 31 + t};` },
        { type: "text", text: system }
      ],
      messages: history(c, t)
    }
  ],
  "/v1/responses": (c, t) => ["/v1/responses", { model, instructions: system, input: history(c, t) }],
  "/api/chat": (c, t) => ["/api/chat", chat([{ role: "system", content: system }, ...history(c, t)])]
}

describe("a conversation stays on its server", () => {
  it.each(Object.keys(namings))("by %s", async (name) => {
    const fakes = await both()
    const gateway = keep(await startGateway(fakes))
    await interleaved((c, t) => posted(gateway, ...(namings[name] as (typeof namings)[string])(c, t)))
    expect(changes(fakes)).toBe(0)
    expect(places(fakes).size).toBe(conversations * turns)
  })

  it.each(Object.keys(histories))("by its messages, at %s", async (name) => {
    const fakes = await both()
    const gateway = keep(await startGateway(fakes))
    await interleaved((c, t) => posted(gateway, ...(histories[name] as (typeof histories)[string])(c, t)))
    expect(changes(fakes)).toBe(0)
    expect(places(fakes).size).toBe(conversations * turns)
  })

  it("by its messages, if the library gets them", async () => {
    const fakes = await both()
    const cortex = fleet.cortex(fakes)
    await interleaved((c, t) => cortex.chat([{ role: "system", content: system }, ...history(c, t)]))
    expect(changes(fakes)).toBe(0)
  })

  it("by its session, in the library", async () => {
    const fakes = await both()
    const cortex = fleet.cortex(fakes)
    const sessions = await Promise.all(Array.from({ length: conversations }, () => cortex.Session.create()))
    await interleaved((c, t) => cortex.chat(question(c, t), { session: sessions[c] as (typeof sessions)[number] }))
    expect(changes(fakes)).toBe(0)
  })

  it.each(["random", "balanced", "fastest", "least-busy"] as const)(
    "when all are under way at once, in at least 95 of 100 turns: %s",
    async (routing) => {
      const fakes = [
        await fleet.openai({ reply: said, firstToken: 5 }),
        await fleet.openai({ reply: said, firstToken: 5 })
      ]
      const gateway = keep(await startGateway(fakes, { routing }))
      const body = histories["/v1/chat/completions"] as (typeof histories)[string]
      const one = async (c: number) => {
        for (let t = 0; t < turns; t++) await posted(gateway, ...body(c, t))
      }
      await Promise.all(Array.from({ length: conversations }, (_, c) => one(c)))
      expect(changes(fakes)).toBeLessThanOrEqual(0.05 * conversations * turns)
    }
  )

  it("but equal first questions are spread", async () => {
    const fakes = await both()
    const gateway = keep(await startGateway(fakes))
    const cortex = fleet.cortex(fakes)
    for (let i = 0; i < 30; i++) {
      await posted(gateway, "/v1/chat/completions", chat(only(0, 0)))
      await cortex.chat("the same")
    }
    for (const fake of fakes) expect(fake.chatRequests.length).toBeGreaterThan(5)
  })

  it("and equal names of two API keys are two conversations", async () => {
    const fakes = await both()
    const keys = [
      { name: "one", key: "key-of-one" },
      { name: "two", key: "key-of-two" }
    ]
    const gateway = keep(await startGateway(fakes, { keys }))
    for (let c = 0; c < 30; c++) {
      for (const [t, { key }] of keys.entries()) {
        const body = chat(only(c, t), { prompt_cache_key: `name-${c}` })
        await posted(gateway, "/v1/chat/completions", body, { authorization: `Bearer ${key}` })
      }
    }
    const found = places(fakes)
    const apart = Array.from({ length: 30 }, (_, c) => found.get(`${c}.0`) !== found.get(`${c}.1`)).filter(Boolean)
    expect(apart.length).toBeGreaterThan(0)
  })
})

describe("a conversation leaves its server", () => {
  it("that dies, and stays with the next one when the first is back", async () => {
    const fakes = await both()
    const gateway = keep(await startGateway(fakes))
    const ask: SendTurn = (c, t) => posted(gateway, "/v1/chat/completions", chat(history(c, t)))
    await ask(0, 0)
    const before = places(fakes).get("0.0") ?? 0
    await fakes[before]?.strike({ kind: "kill", how: "rst" })
    await ask(0, 1)
    await fakes[before]?.strike(undefined)
    for (let t = 2; t < 12; t++) await ask(0, t)
    const found = places(fakes)
    for (let t = 1; t < 12; t++) expect(found.get(`0.${t}`)).toBe(1 - before)
  })

  it("that has more than its share: one conversation name for everything does not fill a server", async () => {
    const fakes = await Promise.all([1, 2, 3].map(() => fleet.openai({ reply: said, firstToken: 1_000 })))
    const gateway = keep(await startGateway(fakes))
    const ask: SendTurn = (c, t) => posted(gateway, "/v1/chat/completions", chat(only(c, t), { user: "everybody" }))
    // Nobody else is there: it stays.
    await ask(0, 0)
    await ask(0, 1)
    const own = fakes.find((fake) => fake.chatRequests.length === 2)
    expect(own).toBeDefined()
    for (const fake of fakes) fake.clear()
    const many = 24
    await Promise.all(Array.from({ length: many }, (_, i) => ask(1, i)))
    // At most a quarter above the average of those that are there, and one that comes.
    expect(own?.maxInFlight).toBeLessThanOrEqual(1.25 * (many / 3 + 1) + 1)
    expect(own?.maxInFlight).toBeGreaterThan(1)
    expect(fakes.reduce((sum, fake) => sum + fake.chatRequests.length, 0)).toBe(many)
  })
})

describe("the fingerprint of a conversation", () => {
  const first = [Message.system(system), Message.user("a question")]
  const of = (messages: ReadonlyArray<Message.Message>, scope?: string) => {
    const found = ConversationKey.ofMessages(messages, scope)
    if (found === undefined) throw new Error("no messages")
    return found
  }

  it("of a turn is a prefix of the next one's, also after tools and several questions in a row", () => {
    const call = { id: "1", name: "read", arguments: { path: "/a" } }
    const second: ReadonlyArray<Message.Message> = [
      ...first,
      { role: "assistant", content: "", toolCalls: [call] },
      { role: "tool", content: "text", toolCallId: "1", toolName: "read" }
    ]
    const third = [...second, Message.assistant("So it is."), Message.user("and"), Message.user("then?")]
    expect(of(second).from[0]).toBe(of(first).to[0])
    expect(of(third).from[0]).toBe(of(second).to[0])
    expect(of(first).from).toEqual([])
  })

  it("differs for any difference in the beginning", () => {
    const changed = (at: number) => Message.system(`${system.slice(0, at)}#${system.slice(at + 1)}`)
    const keys = [0, 250, 500, 900].map((at) => of([changed(at), Message.user("a question")]).to[0])
    expect(new Set([...keys, of(first).to[0], of(first, "another key").to[0]]).size).toBe(6)
  })

  it("matches a history that was changed in the middle by its beginning", () => {
    const long = [...first, Message.assistant("1"), Message.user("2"), Message.assistant("3"), Message.user("4")]
    const cut = [...first, Message.assistant("a summary"), Message.user("5")]
    expect(of(cut).from).toContain(of(long).to[1])
  })

  it("reads a bounded part of a history of many megabytes, and still matches it", () => {
    const huge = Array.from({ length: 4_000 }, (_, i) => [
      Message.user(`${i} ${"x".repeat(4_000)}`),
      Message.assistant("Yes.")
    ]).flat()
    const now = of([...huge, Message.user("last")])
    // What is not read makes no difference.
    const changed = huge.with(6_000, Message.user(`3000 ${"x".repeat(2_000)}y${"x".repeat(1_999)}`))
    expect(of([...changed, Message.user("last")]).to[0]).toBe(now.to[0])
    expect(of([...huge, Message.user("last"), Message.assistant("Yes."), Message.user("more")]).from[0]).toBe(now.to[0])
    expect(of([...huge.slice(0, -2), Message.user("other"), Message.user("last")]).to[0]).not.toBe(now.to[0])
  })
})
