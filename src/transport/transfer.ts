/** How long bodies took to arrive, from which the throughput of a line is computed. */
import * as HttpClient from "@effect/platform/HttpClient"
import * as Effect from "effect/Effect"
import { isTelling } from "../fleet/throughput.js"
import type { Transfer } from "../Transport.js"

/**
 * Measures the body of a response that its server sends as a whole: then the line decides how long it takes. Answers
 * that are streamed while they are written are not measured, because there the model does.
 *
 * @internal
 */
export class TransferMeter {
  private sentAt: number | undefined
  private first: number | undefined
  private last = 0
  private bytes = 0

  sent(): void {
    this.sentAt = performance.now()
  }

  read(length: number): void {
    const now = performance.now()
    if (this.first === undefined) this.first = now
    else this.bytes += length
    this.last = now
  }

  get transfer(): Transfer | undefined {
    const { bytes, first, last, sentAt } = this
    if (first === undefined || bytes === 0) return undefined
    return { bytes, milliseconds: last - first, wait: sentAt === undefined ? undefined : first - sentAt }
  }
}

/** Responses are wrapped on their way, and know their request. */
const ofRequests = new WeakMap<object, Transfer>()

/**
 * Remembers how the body of the response to a request arrived.
 *
 * @internal
 */
export const remember = (request: object, transfer: Transfer | undefined): void => {
  if (transfer !== undefined) ofRequests.set(request, transfer)
}

/**
 * How long a small answer would have taken, in milliseconds, where all that came took so long: a long list takes its
 * time on a line that has a short round trip.
 *
 * @internal
 */
export const roundTripOf = (took: number, longest: Transfer | undefined): number =>
  longest?.wait === undefined || !isTelling(longest) ? took : Math.min(took, longest.wait)

/**
 * A client, and the longest body that came over it; `undefined` where none was measured.
 *
 * @internal
 */
export const metered = (
  client: HttpClient.HttpClient
): { readonly client: HttpClient.HttpClient; readonly longest: () => Transfer | undefined } => {
  let longest: Transfer | undefined
  const watched = HttpClient.tap(client, ({ request }) =>
    Effect.sync(() => {
      const transfer = ofRequests.get(request)
      if (transfer !== undefined && transfer.bytes > (longest?.bytes ?? 0)) longest = transfer
    })
  )
  return { client: watched, longest: () => longest }
}
