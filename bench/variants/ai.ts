/** The AI SDK over `@ai-sdk/openai-compatible`, as its documentation shows it. */
import { createOpenAICompatible } from "@ai-sdk/openai-compatible"
import { generateText, streamText } from "ai"
import { model as modelId, prompt } from "../servers.js"
import type { Open } from "./variant.js"

export const open: Open = async (url) => {
  Object.assign(globalThis, { AI_SDK_LOG_WARNINGS: false })
  const model = createOpenAICompatible({ name: "bench", baseURL: `${url}/v1` })(modelId)
  return {
    call: async () => (await generateText({ model, prompt })).text,
    stream: async () => {
      let text = ""
      for await (const part of streamText({ model, prompt }).textStream) text += part
      return text
    }
  }
}
