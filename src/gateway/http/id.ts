/** Ids of answers and requests: the first part is unique per process, the count per request. */
import { randomBytes } from "node:crypto"

const mine = randomBytes(9).toString("base64url").replace(/[-_]/g, "x")
let count = 0

export const make = (prefix: string): string => `${prefix}${mine}${(count++).toString(36).padStart(6, "0")}`
