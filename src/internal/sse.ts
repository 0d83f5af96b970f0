/**
 * Server-sent events, as far as model servers use them: the `data` of each event.
 *
 * @internal
 */
import * as Lines from "./lines.js"

/**
 * Passes to `take` the data of each event, the beginning of its line, and the event's name, which is empty for nearly
 * all. An event ends at an empty line; one cut off by the end of the stream is passed on too, because some servers omit
 * the last empty line. `skip` is asked first how far it has read by itself; only whole events.
 *
 * @internal
 */
export const make = (
  take: (data: string, before: string, event: string) => void,
  skip: (text: string, from: number) => number = (_text, from) => from
): Lines.Lines => {
  let data: string | undefined
  let before = ""
  let event = ""
  const dispatch = (): void => {
    const name = event
    event = ""
    if (data === undefined) return
    const whole = data
    data = undefined
    take(whole, before, name)
  }
  const lines = Lines.within(
    (text, from, to) => {
      if (from === to) {
        dispatch()
        return
      }
      // A shorter line can hold no `data`.
      if (!text.startsWith("data", from)) {
        if (text.startsWith("event:", from)) event = text.slice(from + 6, to).trim()
        return
      }
      const colon = from + 4
      let value: string
      if (colon === to) value = ""
      else if (text.charCodeAt(colon) !== 58) return
      else {
        const spaced = text.charCodeAt(colon + 1) === 32
        before = spaced ? "data: " : "data:"
        value = text.slice(spaced ? colon + 2 : colon + 1, to)
      }
      data = data === undefined ? value : `${data}\n${value}`
      if (data.length > Lines.maxLineBytes) throw new Lines.LineTooLong()
    },
    (text, from) => (data === undefined && event === "" ? skip(text, from) : from)
  )
  return {
    feed: (bytes) => lines.feed(bytes),
    end() {
      lines.end()
      dispatch()
    }
  }
}
