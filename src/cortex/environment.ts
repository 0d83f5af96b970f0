/** Variables of the environment. */

/** An environment variable without the blanks around it; an empty one is as good as none. */
export const environment = (name: string): string | undefined => {
  const value = process.env[name]?.trim()
  return value === undefined || value === "" ? undefined : value
}
