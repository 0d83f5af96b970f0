/** The exit code of a stopped server: 0, unless requests were cut off. */

/** It has stopped; `clean`: every request in flight was answered. */
export const exitWhenStopped = (clean: boolean): void => {
  process.exitCode = clean ? 0 : 1
}
