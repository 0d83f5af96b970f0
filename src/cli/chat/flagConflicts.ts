/** Mutually exclusive flags of `aicortex chat`. */
import { flagOf } from "../errors.js"
import type { ChatFlags } from "./flags.js"

type FlagName = Exclude<keyof ChatFlags, "prompt">

const alone = "the model gets the text alone, without a chat template"

const besidesText = ["system", "persona", "session", "continue", "think", "json", "schema", "image"] as const

/** Flags of a single question only. */
const single = ["json", "schema", "raw", "suffix", "noStdin", "image", "output", "noStream"] as const

const conflicts: ReadonlyArray<readonly [name: FlagName, others: ReadonlyArray<FlagName>, why?: string]> = [
  ["stream", ["json", "schema"], "JSON is checked as a whole"],
  ["stream", ["noStream"]],
  ["persona", ["system"]],
  ["continue", ["session"]],
  ["noCache", ["cache", "cacheTtl"]],
  ["interactive", single],
  ["raw", ["suffix", ...besidesText], alone],
  ["suffix", besidesText, alone]
]

const isGiven =
  (flags: ChatFlags) =>
  (name: FlagName): boolean => {
    const value = flags[name]
    return value !== undefined && value !== false && !(Array.isArray(value) && value.length === 0)
  }

/** Whether these flags are for a single question, and not for a conversation. */
export const isSingle = (flags: ChatFlags): boolean => single.some(isGiven(flags))

/** The conflict between these flags, if any. */
export const conflictOf = (flags: ChatFlags): string | undefined => {
  const given = isGiven(flags)
  for (const [name, others, why] of conflicts) {
    const other = given(name) ? others.find(given) : undefined
    if (other === undefined) continue
    return `${flagOf(name)} cannot be given together with ${flagOf(other)}${why === undefined ? "" : `: ${why}`}`
  }
  if (flags.output === "jsonl" && (flags.json || flags.schema !== undefined)) {
    return `--output jsonl cannot be given together with ${flags.json ? "--json" : "--schema"}: JSON is checked as a whole`
  }
  if (flags.output === "json" && flags.stream) {
    return "--output json cannot be given together with --stream: it prints the whole answer; --output jsonl prints it as it comes"
  }
  return flags.interactive && flags.prompt.length > 0
    ? "--interactive cannot be given together with a prompt"
    : undefined
}
