/**
 * Variables of the environment.
 *
 * @since 0.2.0
 */

/**
 * An environment variable without the blanks around it; an empty one is as good as none.
 *
 * @since 0.1.0
 * @category accessors
 */
export const environment = (name: string): string | undefined => {
  const value = process.env[name]?.trim()
  return value === undefined || value === "" ? undefined : value
}
