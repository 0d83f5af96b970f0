/** An OpenAI-compatible server whose service times are known, request by request. */
import { createServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"

/** How one request is answered. Times are in milliseconds. */
export interface Service {
  /** Until the first token; never if infinite. */
  readonly first?: number
  /** Between tokens. */
  readonly gap?: number
  readonly tokens?: number
  /** An error instead. */
  readonly status?: number
  /** Whether usage is told. */
  readonly usage?: boolean
  /** How many tokens it says that it wrote, if not as many as it did. */
  readonly claims?: number
}

interface Body {
  readonly messages: ReadonlyArray<{ readonly role: string; readonly content: string }>
  readonly max_tokens?: number
}

export interface LoadedServer extends AsyncDisposable {
  readonly url: string
  readonly bodies: ReadonlyArray<Body>
  readonly authorizations: ReadonlyArray<string | undefined>
  /** Answers that were left by their reader. */
  readonly left: () => number
  readonly mostInFlight: () => number
  /** When it was last asked for its list, and for an answer, by the clock of `performance`. */
  readonly times: { readonly list: number; readonly answer: number }
}

const sleep = (time: number) => new Promise<void>((resolve) => setTimeout(resolve, time))

/** `service` gets the number of the request, from 0. Its list of models, `m` alone, comes after `listDelay` milliseconds. */
export const startLoadedServer = async (service: (number: number) => Service, listDelay = 0): Promise<LoadedServer> => {
  const bodies: Array<Body> = []
  const authorizations: Array<string | undefined> = []
  let left = 0
  let inFlight = 0
  let most = 0
  const times = { list: 0, answer: 0 }
  const answer = async (res: ServerResponse, number: number): Promise<void> => {
    const { claims, first = 0, gap = 0, status = 200, tokens = 4, usage = true } = service(number)
    const completion = claims ?? tokens
    if (first === Number.POSITIVE_INFINITY) return
    await sleep(first)
    if (status !== 200) {
      res.writeHead(status, { "content-type": "application/json" })
      res.end(JSON.stringify({ error: { message: `status ${status} as planned` } }))
      return
    }
    res.writeHead(200, { "content-type": "text/event-stream" })
    const event = (data: object) =>
      res.write(`data: ${JSON.stringify({ object: "chat.completion.chunk", ...data })}\n\n`)
    for (let i = 0; i < tokens; i++) {
      if (i > 0 && gap > 0) await sleep(gap)
      event({ choices: [{ index: 0, delta: { role: "assistant", content: `t${i} ` } }] })
    }
    event({ choices: [{ index: 0, delta: {}, finish_reason: "length" }] })
    if (usage)
      event({
        choices: [],
        usage: { prompt_tokens: 300, completion_tokens: completion, total_tokens: 300 + completion }
      })
    res.end("data: [DONE]\n\n")
  }
  const list = async (path: string | undefined, res: ServerResponse): Promise<void> => {
    if (listDelay === Number.POSITIVE_INFINITY) return
    await sleep(listDelay)
    const found = path === "/v1/models"
    res.writeHead(found ? 200 : 404, { "content-type": "application/json" })
    res.end(JSON.stringify(found ? { object: "list", data: [{ id: "m", object: "model" }] } : { error: "not found" }))
  }
  const server = createServer((req, res) => {
    if (req.method === "GET") {
      times.list = performance.now()
      void list(req.url, res)
      return
    }
    let text = ""
    req.setEncoding("utf8").on("data", (piece: string) => {
      text += piece
    })
    req.on("end", () => {
      const number = bodies.length
      times.answer = performance.now()
      bodies.push(JSON.parse(text) as Body)
      authorizations.push(req.headers.authorization)
      inFlight++
      most = Math.max(most, inFlight)
      res.on("close", () => {
        inFlight--
        if (!res.writableFinished) left++
      })
      void answer(res, number)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    bodies,
    authorizations,
    left: () => left,
    mostInFlight: () => most,
    times,
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
  }
}
