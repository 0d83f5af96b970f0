/**
 * How long an answer may become.
 *
 * @internal
 */

/**
 * Why an answer that goes on for ever is cut off.
 *
 * @internal
 */
export const tooLong = (maxBytes: number): string =>
  `the answer is longer than ${maxBytes} bytes, the limit of an answer (maxAnswerBytes)`

/**
 * A text that was put together from many pieces holds on to each of them, at many times the size of a short one, until it
 * is read as a whole.
 *
 * @internal
 */
export const settle = (text: string): void => void Number(text)
