/** The `openai` package, as its README shows it. */
import OpenAI from "openai"
import { model, prompt } from "../servers.js"
import type { Open } from "./variant.js"

export const open: Open = async (url) => {
  const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: "bench" })
  const messages = [{ role: "user" as const, content: prompt }]
  return {
    call: async () => (await openai.chat.completions.create({ model, messages })).choices[0]?.message.content ?? "",
    stream: async () => {
      let text = ""
      for await (const chunk of await openai.chat.completions.create({ model, messages, stream: true })) {
        text += chunk.choices[0]?.delta.content ?? ""
      }
      return text
    }
  }
}
