/** What a key may do, as it is given and as it is stored. */
import * as Either from "effect/Either"
import type { Allowance } from "../rateLimits.js"
import type { ModelPatterns } from "./modelPatterns.js"

/** use: asks models; manage: may also change the models on servers; admin: everything, keys and servers included. */
export const roles = ["use", "manage", "admin"] as const
export type Role = (typeof roles)[number]

export const priorities = ["interactive", "batch"] as const

/** What a key may do. A limit that is absent is none. */
export interface KeyPolicy {
  readonly role: Role
  /** Patterns of the models, aliases and `auto` that it may use; absent: all. */
  readonly models?: ReadonlyArray<string> | undefined
  readonly requestsPerMinute?: number | undefined
  /** Of prompts and answers. */
  readonly tokensPerMinute?: number | undefined
  /** Requests at once. */
  readonly concurrency?: number | undefined
  /** Quotas of tokens of prompts and answers: of a day, a week from Monday and a month, in UTC. */
  readonly tokensPerDay?: number | undefined
  readonly tokensPerWeek?: number | undefined
  readonly tokensPerMonth?: number | undefined
  /** Whether only local servers may answer. */
  readonly private?: boolean | undefined
  readonly priority?: (typeof priorities)[number] | undefined
  readonly note?: string | undefined
}

/** A key that is to be made. */
export interface NewKey extends Omit<KeyPolicy, "role"> {
  readonly name: string
  readonly role?: Role | undefined
  /** In milliseconds from now; absent: it does not expire. */
  readonly expiresIn?: number | undefined
}

/** The identity of a caller: a key of the settings or of the store, without its secret. */
export interface Caller extends Allowance {
  readonly priority: "interactive" | "batch"
  readonly private?: boolean | undefined
  /** Whether it may do everything. */
  readonly admin: boolean
  /** Whether it may change the models on servers. */
  readonly manages: boolean
  /** Absent: all. */
  readonly models?: ModelPatterns | undefined
}

/** The ranges of limits, for each face. */
export const ranges = {
  requestsPerMinute: [1, 1_000_000_000],
  tokensPerMinute: [1, 1_000_000_000_000],
  concurrency: [1, 1_000_000],
  tokensPerDay: [1, 1_000_000_000_000],
  tokensPerWeek: [1, 1_000_000_000_000],
  tokensPerMonth: [1, 1_000_000_000_000]
} as const satisfies { readonly [name: string]: readonly [minimum: number, maximum: number] }

type Limit = keyof typeof ranges
const limits = Object.keys(ranges) as ReadonlyArray<Limit>

/** The longest time until a key expires, and for which a rotated one stays valid, in milliseconds. */
export const longestLife = 3_650 * 86_400_000
export const longestGrace = 30 * 86_400_000

export const maxPatterns = 100
const longestPattern = 200
const longestNote = 500

/** What is wrong, and with which field. */
export interface Wrong {
  readonly field: string
  readonly reason: string
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const controls = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/

/** Names stand in logs, metrics and tables; one that begins like a key may be one by mistake. */
export const wrongName = (name: string): string | undefined => {
  if (!/^[\p{L}\p{N}][\p{L}\p{N} ._@+-]{0,63}$/u.test(name) || name.endsWith(" ")) {
    return "must be 1 to 64 letters, digits and ._@+- that begin with a letter or a digit"
  }
  return name.startsWith("sk-") ? "must be a name, and not a key" : undefined
}

/** Checks what is given for a key, whichever face it came by. */
export const checked = (given: NewKey): Either.Either<NewKey, Wrong> => {
  const bad = (field: string, reason: string) => Either.left({ field, reason })
  const wrong = wrongName(given.name)
  if (wrong !== undefined) return bad("name", wrong)
  for (const name of limits) {
    const value = given[name]
    const [minimum, maximum] = ranges[name]
    if (value !== undefined && !(Number.isInteger(value) && value >= minimum && value <= maximum)) {
      return bad(name, `must be a whole number from ${minimum} to ${maximum}`)
    }
  }
  const { expiresIn, models = [], note = "" } = given
  if (expiresIn !== undefined && !(expiresIn >= 1_000 && expiresIn <= longestLife)) {
    return bad("expiresIn", "must be from a second to ten years")
  }
  if (models.length > maxPatterns) return bad("models", `must be at most ${maxPatterns} patterns`)
  if (models.some((one) => one.trim() === "" || one.length > longestPattern || controls.test(one))) {
    return bad("models", `must be names of models of at most ${longestPattern} characters, in which * is any text`)
  }
  if (note.length > longestNote || controls.test(note)) {
    return bad("note", `must be one line of at most ${longestNote} characters`)
  }
  return Either.right(given)
}

/** The policy as it is stored: what is not set is left out. */
export const encode = (given: NewKey): string => {
  const { concurrency, models, note, priority, requestsPerMinute, role = "use", tokensPerMinute } = given
  const { tokensPerDay, tokensPerMonth, tokensPerWeek } = given
  const policy: KeyPolicy = {
    role,
    models: models === undefined || models.length === 0 ? undefined : models.map((one) => one.trim()),
    requestsPerMinute,
    tokensPerMinute,
    concurrency,
    tokensPerDay,
    tokensPerWeek,
    tokensPerMonth,
    private: given.private === true ? true : undefined,
    priority,
    note: note === "" ? undefined : note
  }
  return JSON.stringify(policy)
}

/** A role that this version does not know may do the least. */
export const decode = (text: string): KeyPolicy => {
  const policy = JSON.parse(text) as KeyPolicy
  return roles.includes(policy.role) ? policy : { ...policy, role: "use" }
}
