/** A number with its noun: `1 server`, `2 servers`. */
export const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? "" : "s"}`
