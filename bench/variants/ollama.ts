/** The `ollama` package, as its README shows it. */
import { Ollama } from "ollama"
import { model, prompt } from "../servers.js"
import type { Open } from "./variant.js"

export const open: Open = async (url) => {
  const ollama = new Ollama({ host: url })
  const messages = [{ role: "user", content: prompt }]
  return {
    call: async () => (await ollama.chat({ model, messages, stream: false })).message.content,
    stream: async () => {
      let text = ""
      for await (const part of await ollama.chat({ model, messages, stream: true })) text += part.message.content
      return text
    }
  }
}
