/** Our Promise facade. */
import { model, prompt } from "../servers.js"
import { type Open, subject } from "./variant.js"

export const open: Open = async (url) => {
  const { createCortex } = (await subject("BENCH_PROMISE")) as typeof import("../../src/promise.js")
  const cortex = createCortex({ servers: [{ url, maxInFlight: 64 }] })
  return {
    call: () => cortex.chat(prompt, { model }),
    stream: async () => {
      let text = ""
      for await (const event of await cortex.chat(prompt, { model, stream: true })) {
        if (event.type === "token") text += event.content
      }
      return text
    }
  }
}
