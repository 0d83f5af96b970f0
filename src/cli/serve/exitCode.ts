/**
 * The exit code of a stopped server: 0, unless requests were cut off.
 *
 * @since 0.1.0
 */

/**
 * It has stopped; `clean`: every request in flight was answered.
 *
 * @since 0.1.0
 * @category constructors
 */
export const exitWhenStopped = (clean: boolean): void => {
  process.exitCode = clean ? 0 : 1
}
