/** What to do about what is kept and cannot be reached: by the words of its failure, which are those of its driver. */

/**
 * - `full`: there is no room, or a quota is used up
 * - `unwritable`: it may be read and not written
 * - `broken`: something else that lasts until somebody mends it
 * - `away`: it may be back in a moment
 */
export type StoreTrouble = "full" | "unwritable" | "broken" | "away"

const troubles: ReadonlyArray<readonly [StoreTrouble, RegExp]> = [
  ["full", /\b(ENOSPC|EDQUOT|SQLITE_FULL)\b|\bdisk is full\b|\bno space left\b|\bquota exceeded\b|^all room for /i],
  ["unwritable", /\b(EROFS|EACCES|EPERM)\b|\bread-?only\b|\bpermission denied\b|\bunable to open database\b/i],
  [
    "broken",
    /\bis not installed\b|\bname another place\b|\bauthentication failed\b|\bdatabase "[^"]*" does not exist\b|\bno pg_hba\.conf entry\b|\bmalformed\b|\bis not a database\b|\bnewer version\b|\bcannot be read as part of\b|\bcannot be kept\b|\bno such table\b/i
  ]
]

/** What kind of trouble these words tell of. The name of a file tells of none. */
export const troubleOf = (reason: string): StoreTrouble => {
  const said = reason.replace(/^\S+ cannot be used\b/, "")
  return troubles.find(([, words]) => words.test(said))?.[0] ?? "away"
}

const advice: { readonly [T in StoreTrouble]: string } = {
  full: "Make room there: until then it fails again.",
  unwritable: "See to it that it can be written: until then it fails again.",
  broken: "It fails again until that is mended.",
  away: "Try again in a moment."
}

/** What to do about it, as a sentence. */
export const adviceOn = (reason: string): string => advice[troubleOf(reason)]

/** The wait that is worth it, in milliseconds; none where somebody has to mend something first. */
export const waitFor = (reason: string): number | undefined => (troubleOf(reason) === "away" ? 1_000 : undefined)
