/** Terminals and their styles. */

/** A stream that may be a terminal: `process.stdout` or `process.stderr`. */
export type Output = NodeJS.WriteStream

/** Whether a stream is a terminal that understands control sequences. */
export const isTerminal = (output: Output): boolean => output.isTTY === true && process.env["TERM"] !== "dumb"

/** Whether output may be coloured: as `FORCE_COLOR` says, else on a terminal unless `NO_COLOR` is set. */
export const supportsColor = (output: Output): boolean => {
  const { FORCE_COLOR: forced, NO_COLOR: none } = process.env
  return forced ? forced !== "0" && forced !== "false" : isTerminal(output) && !none
}

const style =
  (open: number, close: number) =>
  (text: string, output: Output): string =>
    supportsColor(output) ? `\u001b[${open}m${text}\u001b[${close}m` : text

export const dim = style(2, 22)

export const bold = style(1, 22)

export const red = style(31, 39)

export const green = style(32, 39)

export const yellow = style(33, 39)
