/**
 * Reads flags in their ordinary form without the parser of the command line, which takes longer to load than Node itself.
 * Whatever is unusual or wrong is left to that parser, which has the same flags.
 */

/** The flags of a command: those without a value, with a text, and with a number in a range. */
export interface PlainFlags {
  readonly booleans: ReadonlySet<string>
  readonly texts: ReadonlySet<string>
  readonly numbers: { readonly [flag: string]: readonly [least: number, most: number] }
  /** Those of the numbers that need not be whole. */
  readonly decimals?: ReadonlySet<string>
  /** Short names. */
  readonly aliases?: { readonly [letter: string]: string }
}

/** What was given, by the names of the flags. */
export interface Plain {
  readonly words: ReadonlyArray<string>
  readonly given: ReadonlySet<string>
  readonly text: { readonly [flag: string]: string }
  readonly number: { readonly [flag: string]: number }
}

const whole = /^(0|-?[1-9]\d{0,8})$/
const decimal = /^(0|[1-9]\d{0,8})(\.\d{1,9})?$/

const numberIn = (text: string, form: RegExp, [least, most]: readonly [number, number]): number | undefined => {
  const value = form.test(text) ? Number(text) : Number.NaN
  return value >= least && value <= most ? value : undefined
}

/** `undefined`: the parser of the command line has to read these words. */
export const readPlainFlags = (
  { aliases = {}, booleans, decimals, numbers, texts }: PlainFlags,
  words: ReadonlyArray<string>
): Plain | undefined => {
  const given = new Set<string>()
  const text: { [flag: string]: string } = {}
  const number: { [flag: string]: number } = {}
  const others: Array<string> = []
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? ""
    if (!word.startsWith("-")) {
      if (word === "") return undefined
      others.push(word)
      continue
    }
    const short = /^-([a-z])$/.exec(word)?.[1] ?? ""
    const [, long = "", attached] = /^--([a-z-]+)(?:=(.*))?$/s.exec(word) ?? []
    const flag = Object.hasOwn(aliases, short) ? (aliases[short] ?? "") : long
    if (given.has(flag)) return undefined
    given.add(flag)
    if (booleans.has(flag)) {
      if (attached !== undefined) return undefined
      continue
    }
    const value = attached ?? words[++i] ?? ""
    const range = Object.hasOwn(numbers, flag) ? numbers[flag] : undefined
    if (range !== undefined) {
      const read = numberIn(value, decimals?.has(flag) === true ? decimal : whole, range)
      if (read === undefined) return undefined
      number[flag] = read
    } else if (texts.has(flag) && /^[\w.:/@+][\w.:/@+-]*$/.test(value)) text[flag] = value
    else return undefined
  }
  return { words: others, given, text, number }
}
