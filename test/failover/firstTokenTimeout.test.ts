import { once } from "node:events"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { Chat, type ChatEvent, Cortex, type Errors, Registry, Transport } from "aicortex"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Stream from "effect/Stream"
import { afterEach, describe, expect, it, vi } from "vitest"
import { failure, model, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const fleet = useFleet()
type Protocol = "ollama" | "openai"

const line = (value: object) => `${JSON.stringify(value)}\n`
const event = (value: object) => `data: ${JSON.stringify(value)}\n\n`
const chunk = (delta: object, finish_reason: string | null = null, more: object = {}) =>
  event({ choices: [{ index: 0, delta, finish_reason }], ...more })

/** What shows that a server is at work, without being a piece of the answer. */
const signs: { readonly [P in Protocol]: { readonly [what: string]: string } } = {
  ollama: {
    blanks: "\n",
    "an empty message": line({ model, message: { role: "assistant", content: "" }, done: false })
  },
  openai: {
    comments: ": ping\n\n",
    "other events": "event: ping\n\n",
    "a role": chunk({ role: "assistant", content: "" }),
    "an empty delta": chunk({}),
    "the progress of the prompt": event({ choices: [], prompt_progress: { total: 100, cache: 0, processed: 10 } })
  }
}

const answers: { readonly [P in Protocol]: (promptTokens: number) => string } = {
  ollama: (promptTokens) =>
    line({ model, message: { role: "assistant", content: "Hello" }, done: false }) +
    line({
      model,
      message: { role: "assistant", content: "" },
      done: true,
      done_reason: "stop",
      prompt_eval_count: promptTokens
    }),
  openai: (promptTokens) =>
    chunk({ content: "Hello" }) +
    chunk({}, "stop", { usage: { prompt_tokens: promptTokens, completion_tokens: 1 } }) +
    "data: [DONE]\n\n"
}

const second = 1_000

/** A server whose answers this test writes, at times that it sets. */
const useServer = async (protocol: Protocol) => {
  const server = await fleet[protocol](protocol === "ollama" ? { loaded: [model] } : {})
  const sent: Array<{ readonly handler: Transport.TransportHandler; aborted: boolean }> = []
  const transport = Transport.Transport.of({
    send: (_, handler) => {
      const one = { handler, aborted: false }
      sent.push(one)
      queueMicrotask(() => {
        handler.connected()
        handler.head(200, {})
      })
      return {
        abort: () => {
          one.aborted = true
        },
        pause: () => {},
        resume: () => {}
      }
    }
  })
  const options: Cortex.Options = { servers: [{ url: server.url, protocol }], configFile: false, model }
  const runtime = ManagedRuntime.make(
    Cortex.layer(options, { transport: Layer.succeed(Transport.Transport, transport) })
  )
  await runtime.runPromise(Effect.flatMap(Registry.Registry, (registry) => registry.servers))
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance", "Date"] })
  fleet.keep({
    [Symbol.asyncDispose]: () => {
      vi.useRealTimers()
      return runtime.dispose()
    }
  })
  return {
    sent,
    ask: (prompt: string, options: Chat.Options = {}, streamed = false) => {
      const given = { maxRetries: 1, ...options }
      const call: Effect.Effect<string, Errors.ChatError, Chat.Chat> = streamed
        ? Effect.map(Stream.runCollect(Chat.stream(prompt, given)), (events) =>
            Chunk.join(
              Chunk.map(events, (one: ChatEvent.ChatEvent) => (one.type === "token" ? one.content : "")),
              ""
            )
          )
        : Chat.text(prompt, given)
      let outcome: string | undefined
      const done = runtime.runPromise(Effect.either(call)).then((either) => {
        outcome =
          either._tag === "Right"
            ? either.right
            : either.left._tag === "AllServersFailed"
              ? `${either.left.attempts[0]?.reason}: ${either.left.attempts[0]?.message}`
              : either.left._tag
        return outcome
      })
      return { done, outcome: () => outcome }
    },
    /** Time passes; every so many milliseconds the server writes this. */
    pass: async (milliseconds: number, sign?: string, every = 5 * second) => {
      const steps = sign === undefined ? [milliseconds] : Array.from({ length: milliseconds / every }, () => every)
      for (const step of steps) {
        await vi.advanceTimersByTimeAsync(step)
        const last = sent.at(-1)
        if (sign !== undefined && last !== undefined && !last.aborted) last.handler.data(Buffer.from(sign))
      }
      // Timers that are due at the very end fire after one more turn of the event loop.
      await vi.advanceTimersByTimeAsync(1)
    },
    answer: (promptTokens = 10) => {
      sent.at(-1)?.handler.data(Buffer.from(answers[protocol](promptTokens)))
      sent.at(-1)?.handler.end()
    }
  }
}

afterEach(() => {
  vi.useRealTimers()
})

const long = "word ".repeat(18_000)

describe.each(["ollama", "openai"] as const)("the first token (%s)", (protocol) => {
  describe.each([false, true])("stream: %s", (streamed) => {
    it.each(Object.entries(signs[protocol]))("34 s are allowed with %s", async (_, sign) => {
      const server = await useServer(protocol)
      const call = server.ask("Hi", {}, streamed)
      await server.pass(35 * second, sign)
      expect(call.outcome()).toBeUndefined()
      server.answer()
      expect(await call.done).toBe("Hello")
    })

    it("30 s of silence time out", async () => {
      const server = await useServer(protocol)
      const call = server.ask("Hi", {}, streamed)
      await server.pass(29 * second)
      expect(call.outcome()).toBeUndefined()
      await server.pass(second)
      expect(await call.done).toBe("first-token-timeout: no answer within 30000 ms")
      expect(server.sent).toMatchObject([{ aborted: true }])
    })
  })

  it("30 s of silence after signs of life time out", async () => {
    const server = await useServer(protocol)
    const call = server.ask("Hi")
    await server.pass(20 * second, Object.values(signs[protocol])[0])
    await server.pass(29 * second)
    expect(call.outcome()).toBeUndefined()
    await server.pass(second)
    expect(await call.done).toMatch(/^first-token-timeout: no answer within 30000 ms$/)
  })

  it("endless signs of life time out", async () => {
    const server = await useServer(protocol)
    const call = server.ask("Hi")
    const [sign] = Object.values(signs[protocol])
    await server.pass(115 * second, sign)
    expect(call.outcome()).toBeUndefined()
    await server.pass(5 * second, sign)
    expect(await call.done).toBe(
      "first-token-timeout: no answer within 120000 ms, in which it only kept the connection open"
    )
  })

  it.each<[string, Chat.Options, number, number]>([
    ["`firstTokenTimeout` is the time to the first token", { firstTokenTimeout: 10 * second }, 5 * second, 5 * second],
    [
      "`timeout` is the longest silence, and `loadTimeout` ends it",
      { timeout: 6 * second, loadTimeout: 60 * second },
      55 * second,
      5 * second
    ],
    ["`timeout` alone ends it", { timeout: 10 * second }, 5 * second, 5 * second],
    ["a deadline ends it", { deadline: 50 * second }, 45 * second, 5 * second]
  ])("%s", async (_, options, lives, ends) => {
    const server = await useServer(protocol)
    const call = server.ask(long, options)
    const [sign] = Object.values(signs[protocol])
    await server.pass(lives, sign)
    expect(call.outcome()).toBeUndefined()
    await server.pass(ends, sign)
    expect(await call.done).toMatch(/^(first-token-timeout|DeadlineExceeded)/)
  })

  it("a long prompt gets more time on an unknown server", async () => {
    const server = await useServer(protocol)
    const call = server.ask(long)
    await server.pass(100 * second)
    expect(call.outcome()).toBeUndefined()
    server.answer()
    expect(await call.done).toBe("Hello")
  })

  it("but not unlimited time", async () => {
    const server = await useServer(protocol)
    const call = server.ask(long)
    await server.pass(120 * second)
    expect(await call.done).toBe("first-token-timeout: no answer within 120000 ms")
  })

  it.each([
    ["slow", 50, 300, 590],
    ["fast", 4_000, 0, 30]
  ])("a long prompt gets the time that the speed of a %s server requires", async (_, speed, lives, ends) => {
    const server = await useServer(protocol)
    const first = server.ask("How fast are you?")
    await server.pass(20 * second)
    server.answer(20 * speed)
    await first.done
    const call = server.ask(long)
    await server.pass(lives * second)
    expect(call.outcome()).toBeUndefined()
    await server.pass((ends - lives) * second + 15 * second)
    expect(await call.done).toMatch(/^first-token-timeout: no answer within \d+ ms$/)
  })
})

/** A server that shows life so many times, 25 ms apart, before it answers. */
const startLively = async (protocol: Protocol, sign: string, times: number) => {
  const server = createServer((request, response) => {
    request.resume().on("end", () => {
      if (request.url === "/api/tags" && protocol === "ollama") response.end(line({ models: [{ name: model, model }] }))
      else if (request.url === "/v1/models") response.end(line({ object: "list", data: [{ id: model }] }))
      else if (request.method !== "POST") response.writeHead(404).end()
      else {
        let left = times
        const timer = setInterval(() => {
          if (left-- > 0) response.write(sign)
          else response.end(answers[protocol](10))
        }, 25)
        response.on("close", () => clearInterval(timer))
      }
    })
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  return fleet.keep({
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      server.close()
    }
  })
}

describe.each(["ollama", "openai"] as const)("over HTTP (%s)", (protocol) => {
  const [sign = ""] = Object.values(signs[protocol])
  const limits = { timeout: 400, loadTimeout: 25_000 }

  it("a server with signs of life gets longer than the silence timeout", async () => {
    const server = await startLively(protocol, sign, 50)
    const cortex = fleet.cortex([{ url: server.url, protocol }])
    const result = await cortex.complete("Hi", { ...limits, maxRetries: 1 })
    expect(result).toMatchObject({ text: "Hello", attempts: [] })
    expect(result.firstTokenTime).toBeGreaterThan(limits.timeout)
  })

  it.each([false, true])("also through a gateway (stream: %s)", async (stream) => {
    const server = await startLively(protocol, sign, 50)
    const gateway = fleet.keep(await startGateway([{ url: server.url }], limits))
    const response = await gateway.post("/v1/chat/completions", {
      model,
      messages: [{ role: "user", content: "Hi" }],
      stream
    })
    expect(response.status).toBe(200)
    expect(await response.text()).toContain("Hello")
  })

  it("one with endless signs of life does not", async () => {
    const server = await startLively(protocol, sign, Number.POSITIVE_INFINITY)
    const cortex = fleet.cortex([{ url: server.url, protocol }])
    const error = await failure(cortex.complete("Hi", { timeout: 400, loadTimeout: 800, maxRetries: 1 }))
    expect(error.attempts).toMatchObject([{ reason: "first-token-timeout" }])
  })
})

it("an explicit timeout is not extended for a long prompt", async () => {
  const server = await fleet.openai({ faults: { kind: "hang" } })
  const cortex = fleet.cortex([server])
  const error = await failure(cortex.complete(long, { timeout: 200, maxRetries: 1 }))
  expect(error.attempts).toMatchObject([{ reason: "first-token-timeout", message: "no answer within 200 ms" }])
})
