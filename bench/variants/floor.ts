/** The floor: the least that a careful engineer would write by hand on undici for one server. */
import { request } from "undici"
import { model, prompt } from "../servers.js"
import type { Open } from "./variant.js"

const headers = { "content-type": "application/json" }
const messages = [{ role: "user", content: prompt }]

const post = async (url: string, body: object) => {
  const response = await request(url, { method: "POST", headers, body: JSON.stringify(body) })
  if (response.statusCode !== 200) throw new Error(`HTTP ${response.statusCode}: ${await response.body.text()}`)
  return response.body
}

interface OllamaChunk {
  readonly message: { readonly content: string }
  readonly done: boolean
}

export const openOllama: Open = async (url) => ({
  call: async () => {
    const body = await post(`${url}/api/chat`, { model, messages, stream: false })
    return ((await body.json()) as OllamaChunk).message.content
  },
  stream: async () => {
    const body = await post(`${url}/api/chat`, { model, messages, stream: true })
    body.setEncoding("utf8")
    let text = ""
    let tail = ""
    let done = false
    for await (const chunk of body) {
      const lines = (tail + chunk).split("\n")
      tail = lines.pop() ?? ""
      for (const line of lines) {
        if (line === "") continue
        const value = JSON.parse(line) as OllamaChunk
        text += value.message.content
        done = value.done
      }
    }
    if (!done) throw new Error("The answer was cut.")
    return text
  }
})

interface OpenaiAnswer {
  readonly choices: ReadonlyArray<{ readonly message: { readonly content: string } }>
}

interface OpenaiChunk {
  readonly choices: ReadonlyArray<{ readonly delta: { readonly content?: string } }>
}

export const openOpenai: Open = async (url) => ({
  call: async () => {
    const body = await post(`${url}/v1/chat/completions`, { model, messages })
    return ((await body.json()) as OpenaiAnswer).choices[0]?.message.content ?? ""
  },
  stream: async () => {
    const body = await post(`${url}/v1/chat/completions`, { model, messages, stream: true })
    body.setEncoding("utf8")
    let text = ""
    let tail = ""
    let done = false
    for await (const chunk of body) {
      const lines = (tail + chunk).split("\n")
      tail = lines.pop() ?? ""
      for (const line of lines) {
        if (!line.startsWith("data: ")) continue
        const data = line.slice(6)
        if (data === "[DONE]") done = true
        else text += (JSON.parse(data) as OpenaiChunk).choices[0]?.delta.content ?? ""
      }
    }
    if (!done) throw new Error("The answer was cut.")
    return text
  }
})
