/** Requests over the control socket of a supervisor. */
import { request } from "node:http"
import { createInterface } from "node:readline"

/** What it answered. */
export interface Answer {
  readonly status: number
  readonly body: string
}

/** There is no supervisor, or it broke off. */
export interface NoAnswer {
  readonly reason: string
}

export const noSupervisor = "no supervisor runs"

/**
 * Sends a request to a supervisor; `failed` is called with the reason if it does not answer. Returns a function that
 * cancels it.
 */
export const send = (
  socket: string,
  method: string,
  path: string,
  body: unknown,
  answered: (answer: Answer) => void,
  failed: (why: NoAnswer) => void
): (() => void) => {
  const text = body === undefined ? "" : JSON.stringify(body)
  const sent = request(
    { socketPath: socket, method, path, headers: { "content-length": Buffer.byteLength(text) }, agent: false },
    (response) => {
      let received = ""
      response.setEncoding("utf8").on("data", (piece: string) => {
        received += piece
      })
      response.on("end", () => answered({ status: response.statusCode ?? 0, body: received }))
      response.on("error", (error) => failed({ reason: error.message }))
    }
  )
  sent.on("error", (error: NodeJS.ErrnoException) => {
    const gone = error.code === "ENOENT" || error.code === "ECONNREFUSED"
    failed({ reason: gone ? noSupervisor : `it broke off: ${error.message}` })
  })
  sent.end(text)
  return () => sent.destroy()
}

/**
 * Follows an answer, one JSON value a line; `ended` is called with the reason if it did not end by itself. Returns a
 * function that ends it.
 */
export const follow = (
  socket: string,
  path: string,
  body: unknown,
  tell: (value: unknown) => void,
  ended: (reason: string | undefined) => void
): (() => void) => {
  const text = JSON.stringify(body)
  const sent = request(
    { socketPath: socket, method: "POST", path, headers: { "content-length": Buffer.byteLength(text) }, agent: false },
    (response) => {
      if (response.statusCode !== 200) {
        response.resume()
        ended(`it answered ${response.statusCode}`)
        return
      }
      const lines = createInterface({ input: response })
      lines.on("line", (line) => tell(JSON.parse(line)))
      lines.on("error", () => {})
      response.on("error", () => {})
      response.on("close", () => ended(undefined))
    }
  )
  sent.on("error", ({ message }) => ended(message))
  sent.end(text)
  return () => sent.destroy()
}
