/**
 * What a model's name says, and what is known about a model: pure functions over names such as `llama3.2:3b`.
 *
 * @since 0.1.0
 */
import { distance } from "fastest-levenshtein"

// =============================================================================
// Models
// =============================================================================

/**
 * What is known about a model: the catalogue's record, or what a server says of it, with the keys of the registry
 * files.
 *
 * @since 0.1.0
 * @category models
 */
export interface ModelInfo {
  /** The name, such as `llama3.2:3b`. */
  readonly model_name: string
  /** The family, such as `llama`. */
  readonly family: string
  /** The number of parameters, such as `3.2B`. */
  readonly parameter_size?: string
  /** The quantization, such as `Q4_K_M`. */
  readonly quantization_level?: string
  /** In bytes. */
  readonly size?: number
  /** In tokens. */
  readonly context_length?: number
  /** What it can do, in Ollama's words: `completion`, `tools`, `vision`, `thinking`, `insert`, `embedding`. */
  readonly capabilities?: ReadonlyArray<string>
  /** The format of its files, such as `gguf`. */
  readonly format?: string
  /** Derived from the name: 3 for `gemma3:4b` and `llama3.2:3b`. */
  readonly generation?: number
  readonly [key: string]: unknown
}

// =============================================================================
// the built-in model
// =============================================================================

/**
 * The name of the model that runs inside this process.
 *
 * @since 0.1.0
 * @category constants
 */
export const demoModel = "aicortex-demo"

/**
 * What is known about the built-in model.
 *
 * @since 0.1.0
 * @category constants
 */
export const demoInfo: ModelInfo = {
  model_name: demoModel,
  family: "others",
  parameter_size: "2.15M",
  quantization_level: "Q8_0",
  size: 2_330_720,
  context_length: 512,
  capabilities: ["completion"],
  format: "gguf"
}

// =============================================================================
// sizes
// =============================================================================

/** Powers of ten. */
const units: { readonly [unit: string]: number } = { k: 3, m: 6, b: 9, t: 12 }

const sizePattern = /^(?:(\d+)x)?e?(\d+(?:\.\d+)?)([kmbt])$/

/**
 * The number of parameters that a size means: `7b`, `134.52M`, `293K`, `1t`, `8x7b` (56e9), `e4b` (4e9). A bare
 * number is the count itself. `undefined` where it means none.
 *
 * @since 0.1.0
 * @category sizes
 */
export const parseParameters = (size: string | number): number | undefined => {
  if (typeof size === "number") return Number.isFinite(size) && size >= 0 ? size : undefined
  const text = size.trim().toLowerCase()
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text)
  const match = sizePattern.exec(text)
  if (match === null) return undefined
  // Read as one decimal number: 134.52 * 1e6 would be 134520000.00000001.
  const count = Number(match[1] ?? 1) * Number(`${match[2]}e${units[match[3] ?? ""]}`)
  return Number.isFinite(count) ? Math.round(count) : undefined
}

// =============================================================================
// Names
// =============================================================================

/**
 * The form in which names are compared: lower case, Ollama's `:latest` and its default registry dropped because
 * both are implied.
 *
 * @since 0.1.0
 * @category names
 */
export const canonical = (name: string): string => {
  let key = name.trim().toLowerCase()
  if (key.startsWith("registry.ollama.ai/")) key = key.slice(19)
  if (key.startsWith("library/")) key = key.slice(8)
  return key.endsWith(":latest") ? key.slice(0, -7) : key
}

/** `hf.co/bartowski/Llama-3.2-3B-GGUF:Q4_K_M` is the repository `llama-3.2-3b-gguf` and the tag `q4_k_m`. */
const split = (name: string): readonly [repository: string, tag: string] => {
  const last = name.trim().toLowerCase().split("/").at(-1) ?? ""
  const colon = last.indexOf(":")
  return colon === -1 ? [last, ""] : [last.slice(0, colon), last.slice(colon + 1)]
}

const quantizations =
  /(?:^|[-_.:])(iq\d_(?:xxs|xs|s|m|nl)|q\d_k(?:_(?:xs|xl|s|m|l))?|q\d_[01]|q\d|bf16|fp?(?:16|32)|(?:mx|nv)fp\d|fp8|int\d)(?=$|[-_.])/g

/**
 * How a model's weights are stored, as far as its name says: `Q4_K_M`, `F16`, …
 *
 * @since 0.1.0
 * @category names
 */
export const quantization = (name: string): string | undefined => {
  const [repository, tag] = split(name)
  for (const part of [tag, repository]) {
    // The last one counts: `qat-q4_0` is of a model that was trained for int4.
    const found = [...part.matchAll(quantizations)].at(-1)?.[1]
    if (found !== undefined) return found.toUpperCase().replace("FP16", "F16").replace("FP32", "F32")
  }
  return undefined
}

const sizeInName = /(?:^|[-_])((?:\d+x)?e?\d+(?:\.\d+)?[mbt])(?=$|[-_.])/

/**
 * The number of parameters as far as a model's name says: 3e9 for `llama3.2:3b`.
 *
 * @since 0.1.0
 * @category names
 */
export const sizeOfName = (name: string): number | undefined => {
  const [repository, tag] = split(name)
  const size = sizeInName.exec(tag)?.[1] ?? sizeInName.exec(repository)?.[1]
  return size === undefined ? undefined : parseParameters(size)
}

/**
 * The generation that a model's name says: 3 for `gemma3:4b`, `llama3.2:3b` and `deepseek-v3`, 2 for `qwen2.5:72b`.
 * A size (`8x7b`, `r7b`) is none.
 *
 * @since 0.1.0
 * @category names
 */
export const generation = (name: string): number | undefined => {
  const repository = split(name)[0].replace(quantizations, "")
  for (const match of repository.matchAll(/(\d+)(?:\.\d+)*(x\d+)?([a-z]*)/g)) {
    const [, digits = "", times, letters = ""] = match
    const value = Number(digits)
    if (times === undefined && !/^[kmbt]$/.test(letters) && digits.length <= 2 && value > 0) return value
  }
  return undefined
}

const familyWords: ReadonlyArray<readonly [family: string, words: RegExp]> = [
  ["mistral", /mistral|ministral|mixtral|codestral|devstral|magistral|mathstral|pixtral|voxtral/],
  ["llama", /llama|llava/],
  ["gemma", /gemma/],
  ["qwen", /qwen|qwq|qvq/],
  ["deepseek", /deepseek/]
]

/**
 * The family of a model's name, or of the family that a server reports (`gemma3` belongs to `gemma`). Whatever is
 * none of `deepseek`, `gemma`, `llama`, `mistral` and `qwen` is `others`.
 *
 * @since 0.1.0
 * @category names
 */
export const familyOf = (name: string): string => {
  const repository = split(name)[0]
  return familyWords.find(([, words]) => words.test(repository))?.[0] ?? "others"
}

// =============================================================================
// suggestions
// =============================================================================

/**
 * The names that `name` was probably meant to be, nearest first: few edits away, or containing it or contained in
 * it. Where two are equally near, the one that comes first in `names` does.
 *
 * @since 0.1.0
 * @category names
 */
export const nearest = (name: string, names: Iterable<string>, n = 3): ReadonlyArray<string> => {
  const wanted = canonical(name)
  if (wanted === "") return []
  const limit = Math.max(Math.min(2, wanted.length - 1), Math.floor(wanted.length / 3))
  const found: Array<{ readonly name: string; readonly score: number }> = []
  const seen = new Set<string>()
  for (const candidate of names) {
    const key = canonical(candidate)
    if (key === wanted || seen.has(key)) continue
    const bound = found.length < n ? limit : Math.min(limit, Math.ceil(found[n - 1]?.score ?? limit))
    const edits = Math.abs(wanted.length - key.length) > bound ? bound + 1 : distance(wanted, key)
    let score = edits > bound ? Number.POSITIVE_INFINITY : edits
    if (wanted.length > 2 && key.length > 2 && (key.includes(wanted) || wanted.includes(key))) {
      score = Math.min(score, 1 + Math.abs(key.length - wanted.length) / 16)
    }
    if (score === Number.POSITIVE_INFINITY) continue
    seen.add(key)
    let at = found.length
    while (at > 0 && (found[at - 1]?.score ?? 0) > score) at--
    if (at >= n) continue
    found.splice(at, 0, { name: candidate, score })
    if (found.length > n) found.pop()
  }
  return found.map((entry) => entry.name)
}
