/**
 * Names for answers and requests: unique over processes by their first part, over this one's life by the count.
 *
 * @since 0.1.0
 */
import { randomBytes } from "node:crypto"

const mine = randomBytes(9).toString("base64url").replace(/[-_]/g, "x")
let count = 0

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = (prefix: string): string => `${prefix}${mine}${(count++).toString(36).padStart(6, "0")}`
