/** One exchange over the control socket of a supervisor. */
import { request } from "node:http"

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

/** Asks a supervisor; `failed` is told why where it does not answer. Returns what cancels it. */
export const exchange = (
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
