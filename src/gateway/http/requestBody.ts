/**
 * The body of a request while it arrives, within bounds: of its length, of how much JSON it holds, of the memory that all
 * bodies take together, and of how long nothing may arrive.
 */
import type { IncomingMessage } from "node:http"
import { CostMeter, freeBytes, maxCost } from "./bodyCost.js"
import * as ErrorResponse from "./errorResponse.js"
import { Holding, MemoryBudget } from "./memoryBudget.js"

/** Bodies being read, for all clients together: bounds the memory they take. */
const bodies = new MemoryBudget(512 * 1024 * 1024)

/** With a known length, a longer body is copied into one buffer as it arrives, not when it is complete. */
const pieceBytes = 1024 * 1024

/** - `rejection`: why it has to go although it is complete: memory is needed */
export class RequestBody extends Holding {
  /** Nothing more is waited for: it is complete, or was refused. */
  over = false
  refusal: ErrorResponse.RequestRejected | undefined
  private parts: Array<Buffer> = []
  private whole: Buffer | undefined
  private received = 0
  private meter: CostMeter | undefined

  /** Calls `resolve` with the complete body or `reject` with an error; neither if the client disconnects. */
  constructor(
    owner: string,
    private readonly request: IncomingMessage,
    private readonly max: number,
    private readonly resolve: (body: Buffer) => void,
    private readonly reject: (rejection: ErrorResponse.RequestRejected) => void
  ) {
    super(owner)
  }

  /** The estimated parsing cost, for bodies long enough that it was counted. */
  get cost(): number {
    return this.meter?.cost ?? 0
  }

  read(): void {
    const { max, request } = this
    const contentLength = request.headers["content-length"]
    const length = contentLength === undefined ? Number.POSITIVE_INFINITY : Number(contentLength)
    if (contentLength !== undefined && length > max) {
      this.tooLong()
      return
    }
    if (length > freeBytes) this.meter = new CostMeter()
    const inOnePiece = contentLength !== undefined && length > pieceBytes
    request.on("data", (data: Buffer) => {
      if (this.over) return
      const at = this.received
      this.received += data.length
      if (this.received > max) {
        this.tooLong()
        return
      }
      if (inOnePiece) {
        this.whole ??= Buffer.allocUnsafe(length)
        data.copy(this.whole, at)
      } else this.parts.push(data)
      // Most bodies arrive in one chunk.
      if (data.length !== length) bodies.resize(this, this.received)
      if (!this.over && this.meter?.add(data) === true) this.refuse(tooComplex())
    })
    request.on("end", () => {
      if (this.over) return
      this.over = true
      const { parts, received, whole } = this
      this.forget()
      this.resolve(whole ?? (parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts, received)))
    })
    const broken = () => {
      if (!this.over) this.refuse(ErrorResponse.make(400, "The body ended before it was complete."))
    }
    request.on("error", broken)
    request.on("close", broken)
  }

  evict(): void {
    this.refuse(ErrorResponse.make(503, "The gateway is receiving too much data at once.", "overloaded", null, 1_000))
  }
  /** Nothing of it arrives any more. */
  stopped(): void {
    this.refuse(ErrorResponse.make(408, "The request body stalled.", "request_timeout"))
  }
  /** It takes no memory any more. */
  release(): void {
    bodies.release(this)
  }

  private tooLong(): void {
    const { max } = this
    this.refuse(
      ErrorResponse.make(413, `The body of a request must not be longer than ${max} bytes.`, "body_too_large")
    )
  }
  private forget(): void {
    this.parts = []
    this.whole = undefined
  }
  private refuse(errorResponse: ErrorResponse.ErrorResponse): void {
    const rejection = new ErrorResponse.RequestRejected(errorResponse)
    if (this.over) {
      this.refusal = rejection
      return
    }
    this.over = true
    this.forget()
    this.release()
    this.reject(rejection)
  }
}

const tooComplex = () =>
  ErrorResponse.make(
    413,
    `The body must not hold more than ${maxCost} JSON values (a property counts as four, an array or object as eight).`,
    "body_too_complex"
  )
