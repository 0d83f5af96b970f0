/**
 * Server-sent events, as far as model servers use them: the `data` of each event.
 *
 * @internal
 */
import * as Lines from "./lines.js"

/**
 * Gives `take` the data of each event. An event ends at an empty line; one that the stream's end cuts off is given
 * out all the same, because some servers leave out the last empty line. `quick` is asked first about data of one line
 * that stands in `text`, from `from` up to `to`: where it says that it has taken it, `take` is not given it.
 *
 * @internal
 */
export const make = (
  take: (data: string) => void,
  quick: (text: string, from: number, to: number) => boolean = () => false
): Lines.Lines => {
  let data: string | undefined
  const dispatch = (): void => {
    if (data === undefined) return
    const whole = data
    data = undefined
    take(whole)
  }
  const lines = Lines.within((text, from, to) => {
    if (from === to) {
      dispatch()
      return
    }
    // What stands behind a shorter line is its ending, and so no `data`.
    if (!text.startsWith("data", from)) return
    const colon = from + 4
    let value: string
    if (colon === to) value = ""
    else if (text.charCodeAt(colon) !== 58) return
    else {
      const begin = text.charCodeAt(colon + 1) === 32 ? colon + 2 : colon + 1
      const alone = data === undefined && text.charCodeAt(to) === 10 && text.charCodeAt(to + 1) === 10
      if (alone && quick(text, begin, to)) return
      value = text.slice(begin, to)
    }
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
