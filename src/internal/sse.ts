/**
 * Server-sent events, as far as model servers use them: the `data` of each event.
 *
 * @internal
 */
import * as Lines from "./lines.js"

/**
 * Gives `take` the data of each event. An event ends at an empty line; one that the stream's end cuts off is given
 * out all the same, because some servers leave out the last empty line.
 *
 * @internal
 */
export const make = (take: (data: string) => void): Lines.Lines => {
  let data: string | undefined
  const dispatch = (): void => {
    if (data === undefined) return
    const whole = data
    data = undefined
    take(whole)
  }
  const lines = Lines.make((line) => {
    if (line === "") {
      dispatch()
      return
    }
    if (!line.startsWith("data")) return
    let value: string
    if (line.charCodeAt(4) === 58) value = line.charCodeAt(5) === 32 ? line.slice(6) : line.slice(5)
    else if (line.length === 4) value = ""
    else return
    data = data === undefined ? value : `${data}\n${value}`
    if (data.length > Lines.maxLineBytes) throw new Lines.LineTooLong()
  })
  return {
    feed: (bytes) => lines.feed(bytes),
    end() {
      lines.end()
      dispatch()
    }
  }
}
