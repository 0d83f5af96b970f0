import { Effect, ManagedRuntime, Option } from "effect"
import { afterAll, describe, expect, it } from "vitest"
import { Chat, Conditions, Cortex, Embeddings, Sessions } from "../../src/index.js"
import * as Prng from "../../src/internal/prng.js"
import { type Fake, failure, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const fleet = useFleet()

const secretsAt = (...servers: ReadonlyArray<Fake>): ReadonlyArray<string> =>
  servers.flatMap(({ requests }) =>
    requests.map(({ body }) => JSON.stringify(body ?? "")).filter((body) => body.includes("secret"))
  )

const line = (server: string, state: Conditions.LineState): Conditions.Line => ({
  server,
  state,
  reason: "",
  latency: 10,
  loss: 0,
  throughput: undefined,
  at: 0
})
const machine = (state: Conditions.ResourceState): Conditions.Resources => ({
  state,
  reason: "",
  cpu: 0,
  memory: 0,
  load: 0,
  gpu: undefined,
  at: 0
})

describe("a private call never reaches a remote server", () => {
  const cases = 1_000
  const atOnce = 20
  const next = Prng.make(20_261_129)
  const draw = <const A>(...values: readonly [A, ...ReadonlyArray<A>]): A =>
    values[Math.floor(next() * values.length)] ?? values[0]
  let conditions: Partial<Conditions.Snapshot> = {}
  const runtimes: Array<{ readonly dispose: () => Promise<void> }> = []
  afterAll(() => Promise.all(runtimes.map((runtime) => runtime.dispose())))

  it(`in ${cases} random cases, with any failures and conditions`, { timeout: 240_000 }, async () => {
    const models = ["a:1b", "b:1b", "far:1b", "nomic-embed-text:latest"]
    const reply = "one two three four five six"
    const here = [
      await fleet.ollama({ models: models.filter((one) => one !== "far:1b"), reply }),
      await fleet.openai({ models: ["a:1b", "nomic-embed-text:latest"], reply })
    ]
    const far = [await fleet.ollama({ models, reply }), await fleet.openai({ models, reply })]
    const servers = [
      ...here.map(({ url }) => ({ url, maxInFlight: 2 })),
      ...far.map(({ url }) => ({ url, local: false, priority: -1 }))
    ]
    const layer = Cortex.layer(
      {
        configFile: false,
        servers,
        serverCooldown: 1,
        aliases: { chain: ["far:1b", "b:1b", "auto"] },
        defaults: { maxRetries: 2, retryBackoff: 1, hedge: { after: 1 }, deadline: 20_000 }
      },
      { conditions: Conditions.layerTest(() => conditions) }
    )
    const runtime = ManagedRuntime.make(layer)
    runtimes.push(runtime)

    const one = (n: number, isPrivate: boolean) =>
      Effect.gen(function* () {
        const text = `${isPrivate ? "a secret" : "public"} ${n}`
        const model = draw("auto", "a:1b", "b:1b", "far:1b", "chain", "ollama:a:1b", "openai:a:1b")
        const routing = draw("random", "fastest", "least-busy", "warm", "balanced", "nearest")
        const options = {
          model,
          routing,
          private: isPrivate,
          cache: draw(true, false),
          priority: draw("batch", "interactive")
        }
        const kind = draw("whole", "stream", "json", "embed", "session")
        if (kind === "embed") {
          const { cache: _, ...rest } = options
          return yield* Embeddings.embed(text, { ...rest, model: "nomic-embed-text:latest" })
        }
        if (kind === "json") return yield* Chat.json(text, options)
        if (kind === "session") {
          const session = yield* Sessions.create({ private: isPrivate })
          const { private: _, ...rest } = options
          yield* Chat.text(text, { ...rest, session })
          return yield* Chat.text(`more ${text}`, { ...rest, session })
        }
        if (kind === "whole") return yield* Chat.text(text, options)
        return yield* Effect.flatMap(Chat.Chat, (chat) =>
          Effect.flatMap(chat.open(text, options), (answer) =>
            Effect.promise(async () => {
              try {
                while ((await answer.pull()) !== undefined);
              } catch {
                // What became of it does not matter here.
              }
            })
          )
        )
      }).pipe(Effect.option)

    let answered = 0
    for (let n = 0; n < cases; n += atOnce) {
      conditions = {
        resources: draw(undefined, machine("AVAILABLE"), machine("CONSTRAINED"), machine("CRITICAL")),
        lines: far.map(({ url }) => line(url, draw("OPTIMAL", "DEGRADED", "DISCONNECTED")))
      }
      for (const server of here) {
        const fault = draw(
          undefined,
          { kind: "status", code: 500 } as const,
          { kind: "status", code: 429 } as const,
          { kind: "cut", after: 2 } as const
        )
        await server.setBehaviour({ reply: draw(reply, `{"a":1}`), ...(fault === undefined ? {} : { faults: fault }) })
      }
      const batch = Array.from({ length: atOnce }, (_, i) => one(n + i, true))
      const others = Array.from({ length: 4 }, (_, i) => one(n + i, false))
      const ended = await runtime.runPromise(Effect.all([...batch, ...others], { concurrency: "unbounded" }))
      answered += ended.slice(0, atOnce).filter(Option.isSome).length
      for (const server of here) await server.setBehaviour({ reply })
    }
    expect(secretsAt(...far)).toEqual([])
    // Control: the private calls were answered here, and others were sent there.
    expect(answered).toBeGreaterThan(cases / 4)
    expect(secretsAt(...here).length).toBeGreaterThan(cases / 4)
    const others = far.flatMap(({ requests }) =>
      requests.filter(({ body }) => JSON.stringify(body ?? "").includes("public"))
    )
    expect(others.length).toBeGreaterThan(20)
  })
})

describe.each(["ollama", "openai"] as const)("private (%s)", (protocol) => {
  const both = async (nearModels: ReadonlyArray<string>) => {
    const near = await fleet[protocol]({ models: nearModels, reply: "from here" })
    const far = await fleet[protocol]({ models: ["a:1b", "far:1b"], reply: "from afar" })
    const servers = [{ url: near.url }, { url: far.url, local: false, priority: -1 }]
    return {
      near,
      far,
      servers,
      cortex: fleet.cortex(servers, { model: "a:1b", aliases: { chain: ["far:1b", "a:1b"] } })
    }
  }

  it.each([{ model: "a:1b" }, { model: "auto" }, { model: "chain" }, { model: `${protocol}:a:1b` }])(
    "%j is answered here, and control: elsewhere where it is not private",
    async (options) => {
      const { cortex, far } = await both(["a:1b"])
      expect(await cortex.chat("secret", { ...options, private: true })).toBe("from here")
      expect(far.chatRequests).toHaveLength(0)
      if (options.model !== "auto") expect(await cortex.chat("Hi", options)).toBe("from afar")
    }
  )

  it.each(["far:1b", "auto", `${protocol}:far:1b`])("fails if only remote servers have %s", async (model) => {
    const { cortex, far } = await both([])
    for (const stream of [false, true]) {
      const ask = async () => {
        const answer = await cortex.chat("secret", { model, private: true, stream })
        if (typeof answer !== "string") for await (const _ of answer);
      }
      const error = await failure(ask())
      expect(error).toMatchObject({ _tag: "NoLocalServer", model: model.replace(`${protocol}:`, "") })
      expect(error.message).toContain("private")
    }
    expect(far.chatRequests).toHaveLength(0)
    expect(await cortex.chat("Hi", { model })).toBe("from afar")
  })

  it("an interrupted answer is not resumed on a remote server; control: it is if the call is not private", async () => {
    const { cortex, far, near } = await both(["a:1b"])
    await near.setBehaviour({ reply: "one two three", faults: { kind: "cut", after: 1 } })
    expect(await failure(cortex.chat("secret", { private: true, maxRetries: 2, retryBackoff: 1 }))).toMatchObject({
      _tag: expect.stringMatching(/AllServersFailed|StreamInterrupted/)
    })
    expect(far.chatRequests).toHaveLength(0)
    expect(await cortex.chat("Hi")).toBe("from afar")
  })

  it("applies to all calls of a private session, also after it is resumed", async () => {
    const { cortex, far } = await both(["a:1b"])
    const session = await cortex.Session.create({ private: true })
    expect(await cortex.chat("secret", { session })).toBe("from here")
    const again = await cortex.Session.resume(session.id)
    expect(await cortex.chat("more secret", { session: again })).toBe("from here")
    expect(await failure(cortex.chat("secret", { session, model: "far:1b" }))).toMatchObject({ _tag: "NoLocalServer" })
    expect(far.chatRequests).toHaveLength(0)
    const other = await cortex.Session.create()
    expect(await cortex.chat("Hi", { session: other })).toBe("from afar")
    expect(await failure(cortex.chat("secret", { session: other, private: true }))).toMatchObject({
      _tag: "InvalidRequest",
      field: "private"
    })
  })

  it("may apply to a whole fleet", async () => {
    const { far, servers } = await both(["a:1b"])
    const cortex = fleet.cortex(servers, { model: "a:1b", defaults: { private: true } })
    expect(await cortex.chat("secret")).toBe("from here")
    expect(await cortex.chat("secret", { session: await cortex.Session.create() })).toBe("from here")
    expect(far.chatRequests).toHaveLength(0)
    expect(await cortex.chat("Hi", { private: false })).toBe("from afar")
  })

  it("is validated", async () => {
    const { cortex } = await both(["a:1b"])
    expect(await failure(cortex.chat("Hi", { private: "yes" as never }))).toMatchObject({
      _tag: "InvalidRequest",
      field: "private"
    })
    expect(await failure(cortex.Session.create({ private: 1 as never }))).toMatchObject({ _tag: "InvalidRequest" })
  })

  it("applies to a gateway key, and to a request that sets it", async () => {
    const { far, servers } = await both(["a:1b"])
    const keys = [
      { name: "closed", key: "closed-key", private: true },
      { name: "open", key: "open-key" }
    ]
    const gateway = await startGateway(servers, { keys, routing: "random" })
    try {
      const ask = async (key: string, model: string, headers: Record<string, string> = {}) => {
        const response = await fetch(`${gateway.url}/v1/chat/completions`, {
          method: "POST",
          headers: { authorization: `Bearer ${key}`, "content-type": "application/json", ...headers },
          body: JSON.stringify({ model, messages: [{ role: "user", content: "secret" }] })
        })
        return [response.status, await response.text()] as const
      }
      for (const model of ["a:1b", "auto", "a:1b"]) {
        const [status, text] = await ask("closed-key", model)
        expect([status, text]).toEqual([200, expect.stringContaining("from here")])
      }
      // A request cannot take back what its key says.
      expect((await ask("closed-key", "a:1b", { "x-aicortex-private": "false" }))[1]).toContain("from here")
      expect((await ask("open-key", "a:1b", { "x-aicortex-private": "true" }))[1]).toContain("from here")
      const [status, text] = await ask("closed-key", "far:1b")
      expect(status).toBe(403)
      expect(JSON.parse(text)).toMatchObject({ error: { code: "no_local_server" } })
      expect((await ask("open-key", "a:1b", { "x-aicortex-private": "maybe" }))[0]).toBe(400)
      expect(far.chatRequests).toHaveLength(0)
      expect((await ask("open-key", "a:1b"))[1]).toContain("from afar")
    } finally {
      await gateway.close()
    }
  })
})
