/**
 * Reads `aicortex engine FILE` with flags in their ordinary form, without the parser of the command line: that takes as
 * long to load as Node itself. Whatever is unusual or wrong here is left to the parser, which has the same flags.
 */
import { ranges } from "./ranges.js"
import type { Flags } from "./run.js"

const booleans: ReadonlySet<string> = new Set(["insecure", "embeddings", "stdin-guard"])
const texts: ReadonlySet<string> = new Set(["host", "name"])
const portRange = [0, 65_535] as const

const whole = /^(0|-?[1-9]\d{0,8})$/
const decimal = /^(0|[1-9]\d{0,8})(\.\d{1,9})?$/

const numberIn = (text: string, form: RegExp, [least, most]: readonly [number, number]): number | undefined => {
  const value = form.test(text) ? Number(text) : Number.NaN
  return value >= least && value <= most ? value : undefined
}

/** `undefined`: the parser of the command line has to read these words. */
export const readPlain = (words: ReadonlyArray<string>): Flags | undefined => {
  const given = new Set<string>()
  const text: { [flag: string]: string } = {}
  const number: { [flag: string]: number } = {}
  let file: string | undefined
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? ""
    if (!word.startsWith("-")) {
      if (file !== undefined || word === "") return undefined
      file = word
      continue
    }
    const [, flag = "", attached] = /^--([a-z-]+)(?:=(.*))?$/s.exec(word) ?? []
    if (given.has(flag)) return undefined
    given.add(flag)
    if (booleans.has(flag)) {
      if (attached !== undefined) return undefined
      continue
    }
    const value = attached ?? words[++i] ?? ""
    if (flag === "port" || Object.hasOwn(ranges, flag)) {
      const range = flag === "port" ? portRange : ranges[flag as keyof typeof ranges]
      const read = numberIn(value, flag === "temp" ? decimal : whole, range)
      if (read === undefined) return undefined
      number[flag] = read
    } else if (texts.has(flag) && /^[\w.:/@+][\w.:/@+-]*$/.test(value)) text[flag] = value
    else return undefined
  }
  if (file === undefined) return undefined
  const { host, name } = text
  const { port } = number
  return {
    file,
    gateway: {
      ...(host === undefined ? {} : { host }),
      ...(port === undefined ? {} : { port }),
      ...(given.has("insecure") ? { insecure: true } : {})
    },
    name,
    contextSize: number["ctx"],
    gpuLayers: number["ngl"],
    threads: number["threads"],
    parallel: number["parallel"],
    temperature: number["temp"],
    maxTokens: number["max-tokens"],
    embeddings: given.has("embeddings"),
    stdinGuard: given.has("stdin-guard")
  }
}
