/**
 * How a server that was told to stop ends: with exit code 0, unless requests were cut off.
 *
 * @since 0.1.0
 */

/**
 * It has stopped; `clean`: every request that was under way had its answer.
 *
 * @since 0.1.0
 * @category constructors
 */
export const exitWhenStopped = (clean: boolean): void => {
  process.exitCode = clean ? 0 : 1
}
