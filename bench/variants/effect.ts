/** Our Effect API, with the stream read a chunk at a time (`open`) and an event at a time (`openForEach`). */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Stream from "effect/Stream"
import { model, prompt } from "../servers.js"
import { type Open, subject } from "./variant.js"

const make = async (url: string) => {
  const { Chat, Cortex } = (await subject("BENCH_EFFECT")) as typeof import("../../src/index.js")
  const runtime = ManagedRuntime.make(Cortex.layer({ servers: [{ url, maxInFlight: 64 }] }))
  return { Chat, runtime, call: () => runtime.runPromise(Chat.text(prompt, { model })) }
}

export const open: Open = async (url) => {
  const { Chat, runtime, call } = await make(url)
  const stream = Effect.suspend(() => {
    let text = ""
    return Chat.stream(prompt, { model }).pipe(
      Stream.runForEachChunk((events) =>
        Effect.sync(() => {
          for (const event of Chunk.toReadonlyArray(events)) if (event.type === "token") text += event.content
        })
      ),
      Effect.map(() => text)
    )
  })
  return { call, stream: () => runtime.runPromise(stream) }
}

export const openForEach: Open = async (url) => {
  const { Chat, runtime, call } = await make(url)
  const stream = Effect.suspend(() => {
    let text = ""
    return Chat.stream(prompt, { model }).pipe(
      Stream.runForEach((event) =>
        Effect.sync(() => {
          if (event.type === "token") text += event.content
        })
      ),
      Effect.map(() => text)
    )
  })
  return { call, stream: () => runtime.runPromise(stream) }
}
