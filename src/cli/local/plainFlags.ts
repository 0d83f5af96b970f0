/** Reads `aicortex run -d MODEL` and `aicortex start --foreground` with flags in their ordinary form. */
import { portRange, ranges } from "../engine/ranges.js"
import { type PlainFlags, readPlainFlags } from "../plainFlags.js"
import type { Flags as RunFlags } from "./run.js"
import type { Flags as StartFlags } from "./start.js"

const { ctx, ngl, parallel, threads } = ranges

const runFlags: PlainFlags = {
  booleans: new Set(["detach", "embeddings", "json"]),
  texts: new Set(),
  numbers: { ctx, ngl, threads, parallel, replicas: [1, 1_000], port: portRange },
  aliases: { d: "detach", p: "port" }
}

const foregroundFlags: PlainFlags = {
  booleans: new Set(["foreground", "while-followed", "json"]),
  texts: new Set(["host"]),
  numbers: { port: portRange },
  aliases: { p: "port" }
}

const noStartFlags = { engine: undefined, image: undefined, keepAlive: undefined, timeout: undefined }

/** `undefined`: the parser of the command line has to read these words. */
export const readRun = (words: ReadonlyArray<string>): RunFlags | undefined => {
  const plain = readPlainFlags(runFlags, words)
  const [model, ...more] = plain?.words ?? []
  if (plain === undefined || model === undefined || more.length > 0) return undefined
  const { given, number } = plain
  return {
    ...noStartFlags,
    model,
    detach: given.has("detach"),
    port: number["port"],
    contextSize: number["ctx"],
    gpuLayers: number["ngl"],
    threads: number["threads"],
    parallel: number["parallel"],
    replicas: number["replicas"],
    embeddings: given.has("embeddings"),
    json: given.has("json")
  }
}

/** `undefined`: the parser of the command line has to read these words. */
export const readForeground = (words: ReadonlyArray<string>): StartFlags | undefined => {
  const plain = readPlainFlags(foregroundFlags, words)
  if (plain === undefined || plain.words.length > 0 || !plain.given.has("foreground")) return undefined
  const { given, number, text } = plain
  return {
    ...noStartFlags,
    models: [],
    port: number["port"],
    host: text["host"],
    foreground: true,
    whileFollowed: given.has("while-followed"),
    contextSize: undefined,
    gpuLayers: undefined,
    threads: undefined,
    parallel: undefined,
    replicas: undefined,
    embeddings: false,
    json: given.has("json")
  }
}
