/** Reads `aicortex engine FILE` with flags in their ordinary form. */
import { type PlainFlags, readPlainFlags } from "../plainFlags.js"
import { portRange, ranges } from "./ranges.js"
import type { Flags } from "./run.js"

const flags: PlainFlags = {
  booleans: new Set(["insecure", "embeddings", "stdin-guard"]),
  texts: new Set(["host", "name"]),
  numbers: { ...ranges, port: portRange },
  decimals: new Set(["temp"])
}

/** `undefined`: the parser of the command line has to read these words. */
export const readPlain = (words: ReadonlyArray<string>): Flags | undefined => {
  const plain = readPlainFlags(flags, words)
  const [file, ...more] = plain?.words ?? []
  if (plain === undefined || file === undefined || more.length > 0) return undefined
  const { given, number, text } = plain
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
