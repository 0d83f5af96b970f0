/** Answers that are written at the same time are evaluated together, a token of each at once. */
import { expect, it } from "vitest"
import type { Sink } from "../../src/Backend.js"
import * as Embedded from "../../src/backend/embedded.js"
import { loadEngine } from "../../src/backend/embeddedEngine.js"
import type { Job } from "../../src/backend/embeddedJob.js"
import * as ChatRequest from "../../src/ChatRequest.js"
import { user } from "../../src/Message.js"
import * as Server from "../../src/Server.js"

/** The answer never ends by itself. */
const endless = { type: "array", items: { type: "string", minLength: 400 }, minItems: 20 }
const maxTokens = 60

interface Inner {
  readonly initBatch: (tokens: number) => unknown
}

it.each([1, 2, 3, 4])(
  "%i answers at once, and a prompt that comes in parts meanwhile",
  { timeout: 120_000 },
  async (n) => {
    const engine = await loadEngine(Embedded.defaultModelPath(), { contextSize: 1024, parallel: 5 }, true)
    const { backend, close } = Embedded.make({
      modelPath: Embedded.defaultModelPath(),
      parallel: 5,
      preload: { engine: Promise.resolve(engine), loaded: () => {}, failed: ({ message }) => expect.fail(message) }
    })
    const job = { over: false, onCancel: () => {} } as unknown as Job
    const sequence = await engine.sequences.acquire(job, engine.model.tokenize("a"))
    if (sequence === undefined) return expect.fail("there is no sequence")
    engine.sequences.release(sequence)
    const { _ctx: inner } = sequence.context as unknown as { readonly _ctx: Inner }
    const sizes: Array<number> = []
    const initBatch = inner.initBatch.bind(inner)
    Reflect.defineProperty(inner, "initBatch", {
      value: (tokens: number) => {
        sizes.push(tokens)
        return initBatch(tokens)
      }
    })

    const answer = (prompt: string): Promise<void> =>
      new Promise((resolve, reject) => {
        const sink: Sink = {
          connected: () => {},
          read: () => {},
          text: () => {},
          thinking: () => {},
          toolCall: () => {},
          finish: () => resolve(),
          flush: () => {},
          fail: ({ message }) => reject(new Error(message))
        }
        const request = ChatRequest.make({ temperature: 0, maxTokens }, "aicortex-demo", [user(prompt)], endless)
        backend.start(Server.embedded, request, sink)
      })
    await Promise.all([
      ...Array.from({ length: n }, (_, i) => answer(`Robot number ${i}.`)),
      // Longer than a batch.
      answer("The robot went to the river. ".repeat(90))
    ])
    const together = sizes.filter((size) => size === n + 1).length
    // A few at the beginning and the end may hold fewer: an answer that missed each batch would make it none.
    expect(together).toBeGreaterThan(maxTokens * 0.7)
    await close()
  }
)
