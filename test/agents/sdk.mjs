/**
 * A program as people write it with the AI SDK's OpenAI provider, in its default mode, the Responses API. It keeps its
 * conversation in a file, prints its events as lines of JSON, and gives up at SIGINT.
 *
 *   node sdk.mjs CONVERSATION QUESTION
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { createOpenAI } from "@ai-sdk/openai"
import { stepCountIs, streamText, tool } from "ai"
import { z } from "zod"

const [file = "", question = ""] = process.argv.slice(2)
const say = (/** @type {unknown} */ event) => void process.stdout.write(`${JSON.stringify(event)}\n`)
const controller = new AbortController()
process.once("SIGINT", () => controller.abort())

const openai = createOpenAI({ baseURL: process.env["OPENAI_BASE_URL"], apiKey: process.env["OPENAI_API_KEY"] })
const messages = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : []
messages.push({ role: "user", content: question })

const result = streamText({
  model: openai(process.env["MODEL"] ?? ""),
  system: "You are a helpful assistant.",
  messages,
  abortSignal: controller.signal,
  maxRetries: 0,
  stopWhen: stepCountIs(4),
  tools: {
    read_file: tool({
      description: "Reads a file of the working directory.",
      inputSchema: z.object({ path: z.string() }),
      execute: ({ path }) => readFileSync(path, "utf8")
    })
  },
  onError: ({ error }) => say({ type: "failed", message: String(error) })
})
for await (const part of result.fullStream) {
  if (part.type === "text-delta") say({ type: "delta", text: part.text })
  if (part.type === "tool-result") say({ type: "tool", output: part.output })
  if (part.type === "abort") say({ type: "aborted" })
}
if (!controller.signal.aborted) {
  say({ type: "answer", text: await result.text })
  const { messages: added } = await result.response
  writeFileSync(file, JSON.stringify([...messages, ...added]))
}
