// Servers that say what they are asked to, and clients that ask with hostile schemas, in a process of their own.
import { createServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { Agent, request } from "undici"
import { type Case, cases } from "./cases.js"

const model = "m:1b"

export interface Orders {
  readonly url: string
  readonly seed: number
  readonly count: number
  readonly longEvery: number
  readonly clients: number
}

export type Report =
  | { readonly is: "listening"; readonly servers: ReadonlyArray<string> }
  | {
      readonly is: "case"
      readonly name: string
      readonly began: number
      readonly ended: number
      readonly status: number
      /** Why there was no answer. */
      readonly problem?: string | undefined
    }
  | { readonly is: "done" }

const say = (report: Report): void => {
  process.send?.(report)
}

const json = (response: ServerResponse, value: unknown): void => {
  response.setHeader("content-type", "application/json")
  response.end(JSON.stringify(value))
}

/** The first thing the user said is the reply. */
const listen = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer((incoming, response) => {
      const parts: Array<Buffer> = []
      incoming.on("data", (part: Buffer) => parts.push(part))
      incoming.on("end", () => {
        const path = incoming.url ?? ""
        if (path === "/v1/models") return json(response, { object: "list", data: [{ id: model, object: "model" }] })
        if (path === "/api/version") return json(response, { version: "0.13.0" })
        if (path === "/api/ps") return json(response, { models: [] })
        if (path === "/api/tags")
          return json(response, { models: [{ name: model, model, size: 1, digest: "d", details: {} }] })
        if (path === "/api/show")
          return json(response, { details: {}, model_info: {}, capabilities: ["completion", "tools"] })
        if (parts.length === 0) {
          response.statusCode = 404
          return response.end()
        }
        const body = JSON.parse(Buffer.concat(parts).toString("utf8"))
        const content: string =
          body.messages?.find(({ role }: { role: string }) => role === "user")?.content ?? body.prompt ?? ""
        const halves = [content.slice(0, content.length >> 1), content.slice(content.length >> 1)]
        if (path === "/api/chat") {
          const line = (content: string, done: boolean) => ({
            model,
            created_at: "2026-01-01T00:00:00Z",
            message: { role: "assistant", content },
            done,
            ...(done ? { done_reason: "stop", prompt_eval_count: 1, eval_count: 1 } : {})
          })
          if (body.stream === false) return json(response, line(content, true))
          response.setHeader("content-type", "application/x-ndjson")
          for (const half of halves) response.write(`${JSON.stringify(line(half, false))}\n`)
          return response.end(`${JSON.stringify(line("", true))}\n`)
        }
        const usage = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 }
        const head = { id: "c", created: 1, model }
        if (body.stream !== true) {
          const message = { role: "assistant", content }
          return json(response, {
            ...head,
            object: "chat.completion",
            usage,
            choices: [{ index: 0, message, finish_reason: "stop" }]
          })
        }
        response.setHeader("content-type", "text/event-stream")
        const event = (delta: object, finish_reason: string | null) =>
          `data: ${JSON.stringify({ ...head, object: "chat.completion.chunk", choices: [{ index: 0, delta, finish_reason }] })}\n\n`
        for (const half of halves) response.write(event({ content: half }, null))
        response.end(`${event({}, "stop")}data: [DONE]\n\n`)
      })
    })
    server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port))
  })

/** Every face that takes a schema, as what stands around it. */
const faces: ReadonlyArray<readonly [path: string, before: string, after: string]> = [
  ["/v1/chat/completions", '"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":', "}}"],
  ["/v1/chat/completions", '"response_format":{"type":"json_object","schema":', "}"],
  ["/v1/responses", '"text":{"format":{"type":"json_schema","name":"a","schema":', "}}"],
  ["/v1/messages", '"max_tokens":100,"output_format":{"type":"json_schema","schema":', "}"],
  ["/api/chat", '"format":', ""],
  ["/api/generate", '"format":', ""],
  ["/v1/chat/completions", '"tools":[{"type":"function","function":{"name":"t","parameters":', "}}]"],
  ["/v1/messages", '"max_tokens":100,"tools":[{"name":"t","input_schema":', "}]"],
  ["/api/chat", '"tools":[{"type":"function","function":{"name":"t","parameters":', "}}]"]
]

const attack = async ({ clients, count, longEvery, seed, url }: Orders): Promise<void> => {
  const agent = new Agent({ connections: clients })
  const all = cases(seed, count, longEvery)
  let requestCount = 0
  const ask = async ({ name, reply, schema }: Case): Promise<void> => {
    const [path, before, after] = faces[requestCount % faces.length] as (typeof faces)[number]
    const stream = Math.floor(requestCount++ / faces.length) % 2 === 1
    const text = JSON.stringify(reply)
    const prompt =
      path === "/v1/responses"
        ? `"input":${text}`
        : path === "/api/generate"
          ? `"prompt":${text}`
          : `"messages":[{"role":"user","content":${text}}]`
    const body = `{"model":"${model}","stream":${stream},${prompt},${before}${schema}${after}}`
    const began = Date.now()
    let status = 0
    let problem: string | undefined
    try {
      const response = await request(`${url}${path}`, {
        method: "POST",
        dispatcher: agent,
        headers: { "content-type": "application/json" },
        body
      })
      status = response.statusCode
      for await (const _ of response.body);
    } catch (error) {
      // The gateway was told to stop, or is gone: the figures say so.
      problem = String(error)
    }
    const label = `${name}, ${path}${stream ? ", streamed" : ""}`
    say({ is: "case", name: label, began, ended: Date.now(), status, problem })
  }
  await Promise.all(
    Array.from({ length: clients }, async () => {
      for (let next = all.next(); next.done !== true; next = all.next()) await ask(next.value)
    })
  )
  say({ is: "done" })
}

export const run = async (): Promise<void> => {
  const [ollama, openai] = await Promise.all([listen(), listen()])
  process.on("message", (orders) => void attack(orders as Orders))
  process.on("disconnect", () => process.exit())
  say({ is: "listening", servers: [`http://127.0.0.1:${ollama}`, `http://127.0.0.1:${openai}/v1`] })
}
