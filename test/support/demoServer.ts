import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import type { Finish } from "../../src/Backend.js"
import * as Embedded from "../../src/backend/embedded.js"
import * as ChatRequest from "../../src/ChatRequest.js"
import * as Message from "../../src/Message.js"
import * as Server from "../../src/Server.js"
import type { Continuation, Json } from "./script.js"

/**
 * A process that serves the demo model over the OpenAI API, so that real inference can be killed: `startDemoServer` in
 * demoProcess.ts runs it. Arguments: the model's file, what it does with a partial answer at the end, and its port.
 *
 * `POST /hold {"after": n}` has it fall silent after n pieces of the next answer. After its port it prints a line of
 * JSON for each step of a request, so that it is known what it was at when it was killed: the request's number, the
 * step, and with `begin` its seed.
 */

const [modelPath = "", habit = "continue", port = "0"] = process.argv.slice(2) as [string?, Continuation?, string?]
// Not its own name: that is answered by the engine inside the library.
const model = "tiny:2m"
const engine = Embedded.make({ modelPath })
let hold: number | undefined
let requests = 0

const read = async (req: IncomingMessage): Promise<Json> => {
  const parts: Array<Buffer> = []
  for await (const part of req) parts.push(part as Buffer)
  return parts.length === 0 ? undefined : JSON.parse(Buffer.concat(parts).toString())
}

const json = (res: ServerResponse, status: number, body: Json) => {
  res.writeHead(status, { "content-type": "application/json" })
  res.end(JSON.stringify(body))
}

const tell = (number: number, step: "begin" | "token" | "end", seed?: number) =>
  process.stdout.write(`${JSON.stringify({ number, step, seed })}\n`)

/** Answers a chat, or, where there are no messages, goes on with a text. */
const complete = (body: Json, res: ServerResponse) => {
  const number = requests++
  tell(number, "begin", body.seed)
  const after = hold
  hold = undefined
  let sent = 0
  const raw = body.messages === undefined
  const event = (delta: Json, finish_reason: string | null, rest: Json = {}) => {
    const said = raw ? { text: delta.content ?? "" } : { delta }
    res.write(`data: ${JSON.stringify({ model, choices: [{ index: 0, ...said, finish_reason }], ...rest })}\n\n`)
  }
  const messages: ReadonlyArray<Message.Message> = raw ? [Message.user(body.prompt)] : body.messages
  const partial = messages.at(-1)?.role === "assistant" ? Message.text(messages.at(-1) as Message.Message) : ""
  const goesOn = partial !== "" && habit !== "restart"
  // llama.cpp says the partial answer again, unless it is told not to.
  let echo = goesOn && (habit === "echo" || body.continue_final_message !== true) ? partial : ""
  const request = ChatRequest.make(
    {
      temperature: body.temperature,
      topP: body.top_p,
      maxTokens: body.max_tokens,
      stop: body.stop,
      seed: body.seed,
      raw
    },
    model,
    goesOn || partial === "" ? messages : messages.slice(0, -1),
    "text"
  )
  res.writeHead(200, { "content-type": "text/event-stream" })
  if (!raw) event({ role: "assistant", content: null }, null)
  let end: Finish | undefined
  const exchange = engine.backend.start(Server.embedded, request, {
    connected: () => {},
    read: () => {},
    text: (content) => {
      if (after !== undefined && sent >= after) return
      if (sent++ === 0) tell(number, "token")
      event({ content: echo + content }, null)
      echo = ""
    },
    thinking: () => {},
    toolCall: () => {},
    finish: (finish) => {
      end = finish
    },
    flush: () => {
      if (end === undefined || (after !== undefined && sent >= after)) return
      const { completionTokens, promptTokens, totalTokens } = end.usage
      event({}, end.reason)
      const usage = { prompt_tokens: promptTokens, completion_tokens: completionTokens, total_tokens: totalTokens }
      res.end(`data: ${JSON.stringify({ model, choices: [], usage })}\n\ndata: [DONE]\n\n`)
    },
    fail: (failure) => {
      res.end(`data: ${JSON.stringify({ error: { message: failure.message } })}\n\n`)
    }
  })
  res.on("close", () => {
    tell(number, "end")
    exchange.abort()
  })
}

const server = createServer(async (req, res) => {
  const body = await read(req)
  if (req.url === "/hold") {
    hold = body.after
    json(res, 200, {})
  } else if (req.url === "/v1/models") json(res, 200, { object: "list", data: [{ id: model, object: "model" }] })
  else if (req.url === "/v1/chat/completions" || req.url === "/v1/completions") complete(body, res)
  else json(res, 404, { error: { message: "File Not Found" } })
})

const listen = () =>
  server.listen(Number(port), "127.0.0.1", () => {
    process.stdout.write(`${(server.address() as AddressInfo).port}\n`)
  })

// It listens once the model is loaded.
const nothing = () => {}
const warmUp = ChatRequest.make({ maxTokens: 1 }, model, [Message.user("Hello")], "text")
engine.backend.start(Server.embedded, warmUp, {
  connected: nothing,
  read: nothing,
  text: nothing,
  thinking: nothing,
  toolCall: nothing,
  finish: listen,
  flush: nothing,
  fail: ({ message }) => {
    throw new Error(message)
  }
})
// It never outlives the tests that have started it.
process.stdin.on("end", () => process.exit())
process.stdin.resume()
