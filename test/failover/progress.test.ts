import { describe, expect, it } from "vitest"
import { failure, inOrder, useFleet } from "../support/fleet.js"

const fakes = useFleet()
const story = ["one", " two", " three", " four", " five", " six", " seven", " eight", " nine", " ten"]
const options = { retryBackoff: 1 }

describe.each(["openai", "ollama"] as const)(
  "a call for a whole answer that breaks again and again (%s)",
  (protocol) => {
    /** Two servers of which each cuts its nth answer after so many tokens, as `after` says, until it is `undefined`. */
    const pair = async (after: (n: number) => number | undefined) => {
      let count = 0
      const faults = () => {
        const tokens = after(count++)
        return tokens === undefined ? undefined : ({ kind: "cut", after: tokens } as const)
      }
      const servers = [
        await fakes[protocol]({ reply: story, faults }),
        await fakes[protocol]({ reply: story, faults })
      ] as const
      return { fleet: fakes.cortex(inOrder(...servers), { serverCooldown: 1 }), requestCount: () => count }
    }

    it("is retried while each attempt makes progress", async () => {
      const { requestCount, fleet } = await pair((n) => (n < 9 ? n + 1 : undefined))
      const { attempts, text } = await fleet.complete("q", options)
      expect([text, attempts.length, requestCount()]).toEqual([story.join(""), 9, 10])
    })

    it("also if some attempts make no progress", async () => {
      const { fleet } = await pair((n) => (n < 12 ? 1 + (n >> 2) : undefined))
      const { attempts, text } = await fleet.complete("q", options)
      expect([text, attempts.length]).toEqual([story.join(""), 12])
    })

    it("fails after six attempts without progress", async () => {
      const { requestCount, fleet } = await pair(() => 3)
      const error = await failure(fleet.complete("q", options))
      expect([error._tag, error.attempts.length, requestCount()]).toEqual(["AllServersFailed", 6, 6])
    })

    it("fails after the caller's number of attempts", async () => {
      const { requestCount, fleet } = await pair((n) => (n < 9 ? n + 1 : undefined))
      const error = await failure(fleet.complete("q", { ...options, maxRetries: 3 }))
      expect([error._tag, requestCount()]).toEqual(["AllServersFailed", 3])
    })
  }
)
