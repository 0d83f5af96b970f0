/** Backends without a network: answers whose speed is set, by a clock that they advance themselves. */

import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type Backend, Backends, type Finish, type ServerFailure, type Sink } from "../../src/Backend.js"
import type { ChatRequest } from "../../src/ChatRequest.js"
import type { Server } from "../../src/Server.js"

/** How a server answers. Speeds are in tokens per second, times in milliseconds. */
export interface Scripted {
  /** How fast it really is. */
  readonly output: number
  readonly prompt: number
  /** Before anything else. */
  readonly overhead?: number
  /** What it says instead of the truth, or besides. */
  readonly claims?: Partial<Finish>
  /** No text at all, or text without end. */
  readonly text?: "none" | "endless"
  /** All at once at the end. */
  readonly burst?: boolean
  readonly fails?: ServerFailure
  /** Called for each request before it is answered. */
  readonly asked?: (request: ChatRequest, n: number) => void
}

/** A clock that stands still, but for what its users add to it. */
export class ManualClock {
  private nanos = BigInt(Date.now()) * 1_000_000n
  add(milliseconds: number): void {
    this.nanos += BigInt(Math.round(milliseconds * 1e6))
  }
  get now(): number {
    return Number(this.nanos / 1_000_000n)
  }
  /** Over the one that is there, for sleeping. */
  over(live: Clock.Clock): Clock.Clock {
    return {
      ...live,
      unsafeCurrentTimeMillis: () => this.now,
      unsafeCurrentTimeNanos: () => this.nanos,
      currentTimeMillis: Effect.sync(() => this.now),
      currentTimeNanos: Effect.sync(() => this.nanos),
      sleep: (duration) => live.sleep(duration)
    }
  }
}

const words = "one, two, three, four, five, six, seven, eight, nine, ten, ".split(/(?<= )/)

/** Answers by the address of the server. */
export const scripted = (clock: ManualClock, by: (server: Server) => Scripted): Layer.Layer<Backends> => {
  const counts = new Map<string, number>()
  const start = (server: Server, request: ChatRequest, sink: Sink) => {
    const script = by(server)
    const n = counts.get(server.url) ?? 0
    counts.set(server.url, n + 1)
    let aborted = false
    const answer = () => {
      if (aborted) return
      script.asked?.(request, n)
      sink.connected()
      if (script.fails !== undefined) return sink.fail(script.fails)
      const [message] = request.messages
      const promptTokens = Math.ceil(String(message?.content).length / 4)
      const promptTime = (promptTokens * 1_000) / script.prompt
      clock.add((script.overhead ?? 0) + promptTime)
      const asked = request.maxTokens ?? 100
      const count = script.text === "none" ? 0 : script.text === "endless" ? Number.POSITIVE_INFINITY : asked
      const pause = 1_000 / script.output
      if (script.burst === true) clock.add(pause * (asked - 1))
      for (let i = 0; i < count && !aborted; i++) {
        if (i > 0 && script.burst !== true) clock.add(pause)
        if (script.burst !== true || i === 0) sink.read()
        sink.text(words[i % words.length] ?? "")
        if (script.burst !== true) sink.flush()
      }
      if (aborted) return
      sink.read()
      sink.finish({
        reason: "length",
        usage: { promptTokens, completionTokens: asked },
        tokensPerSecond: script.output,
        promptTime,
        ...script.claims
      })
      sink.flush()
    }
    queueMicrotask(answer)
    return {
      abort: () => {
        aborted = true
      },
      pause: () => {},
      resume: () => {}
    }
  }
  const backend: Backend = {
    unsupported: () => [],
    start,
    resume: (server, request, _partial, sink) => start(server, request, sink),
    cannotEmbed: () => [],
    embed: () => {
      throw new Error("no embeddings here")
    }
  }
  return Layer.succeed(Backends, Backends.of({ get: () => backend }))
}
