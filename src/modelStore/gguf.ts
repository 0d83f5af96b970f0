/** Reads the beginning of a GGUF file: that it is one, and what it says of the model. */
import * as Either from "effect/Either"

/**
 * What the file of a model says of it.
 *
 * @since 0.3.0
 * @category models
 */
export interface ModelMetadata {
  /** The version of the format. */
  readonly version: number
  /** Such as `llama` or `qwen3`. */
  readonly architecture?: string
  /** What it calls itself. */
  readonly title?: string
  /** How many parameters, over all parts. */
  readonly parameters?: number
  /** Such as `Q4_K_M`. */
  readonly quantisation?: string
  /** How many tokens it was trained to see. */
  readonly contextLength?: number
  /** How long its vectors are. */
  readonly embeddingLength?: number
  /** How many layers. */
  readonly layers?: number
  /** Whether it says how a conversation is written down. */
  readonly chatTemplate: boolean
  /** Such as `apache-2.0`. */
  readonly licence?: string
  /** How many parts it has, where it says so. */
  readonly parts?: number
}

/** The longest beginning that is read, in bytes: vocabularies take a few megabytes. */
export const maxHeaderBytes = 128 * 1024 * 1024

const maxEntries = 100_000

/** The names of `general.file_type`. */
const fileTypes: { readonly [type: number]: string } = {
  0: "F32",
  1: "F16",
  2: "Q4_0",
  3: "Q4_1",
  7: "Q8_0",
  8: "Q5_0",
  9: "Q5_1",
  10: "Q2_K",
  11: "Q3_K_S",
  12: "Q3_K_M",
  13: "Q3_K_L",
  14: "Q4_K_S",
  15: "Q4_K_M",
  16: "Q5_K_S",
  17: "Q5_K_M",
  18: "Q6_K",
  19: "IQ2_XXS",
  20: "IQ2_XS",
  21: "Q2_K_S",
  22: "IQ3_XS",
  23: "IQ3_XXS",
  24: "IQ1_S",
  25: "IQ4_NL",
  26: "IQ3_S",
  27: "IQ3_M",
  28: "IQ2_S",
  29: "IQ2_M",
  30: "IQ4_XS",
  31: "IQ1_M",
  32: "BF16",
  36: "TQ1_0",
  37: "TQ2_0",
  38: "MXFP4"
}

/** Of the types of tensors: how many numbers are in a block, and how many bytes it takes. */
const blockSizes: { readonly [type: number]: readonly [numbers: number, bytes: number] } = {
  0: [1, 4],
  1: [1, 2],
  2: [32, 18],
  3: [32, 20],
  6: [32, 22],
  7: [32, 24],
  8: [32, 34],
  10: [256, 84],
  11: [256, 110],
  12: [256, 144],
  13: [256, 176],
  14: [256, 210],
  30: [1, 2]
}

const fixedSizes = [1, 1, 2, 2, 4, 4, 4, 1, undefined, undefined, 8, 8, 8]
const stringType = 8
const arrayType = 9

/** Reads numbers and texts one after the other; `short` where there was not enough. */
class Cursor {
  at = 0
  short = false
  private readonly view: DataView

  constructor(private readonly bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  skip(count: number): boolean {
    if (this.at + count > this.bytes.length) {
      this.short = true
      return false
    }
    this.at += count
    return true
  }

  u32(): number {
    return this.skip(4) ? this.view.getUint32(this.at - 4, true) : 0
  }

  /** Larger ones than can be exact count as endless. */
  u64(): number {
    if (!this.skip(8)) return 0
    const value = this.view.getBigUint64(this.at - 8, true)
    return value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.POSITIVE_INFINITY : Number(value)
  }

  text(): string {
    const length = this.u64()
    const begin = this.at
    return this.skip(length) ? new TextDecoder().decode(this.bytes.subarray(begin, begin + length)) : ""
  }

  /** A number, a truth value or a text; anything else is passed over. */
  value(type: number, depth = 0): number | string | boolean | undefined {
    if (type === stringType) return this.text()
    if (type === arrayType) {
      const of = this.u32()
      this.items(of, this.u64(), depth + 1)
      return undefined
    }
    const size = fixedSizes[type]
    if (size === undefined || !this.skip(size)) return undefined
    const { view } = this
    const at = this.at - size
    if (type === 4) return view.getUint32(at, true)
    if (type === 5) return view.getInt32(at, true)
    if (type === 10) return Number(view.getBigUint64(at, true))
    if (type === 11) return Number(view.getBigInt64(at, true))
    if (type === 7) return view.getUint8(at) !== 0
    return type === 0 ? view.getUint8(at) : type === 2 ? view.getUint16(at, true) : undefined
  }

  private items(type: number, count: number, depth: number): void {
    const size = fixedSizes[type]
    if (size !== undefined) {
      this.skip(size * count)
      return
    }
    if ((type !== stringType && type !== arrayType) || depth > 3) {
      this.wrong = true
      return
    }
    for (let i = 0; i < count && !this.short && !this.wrong; i++) {
      if (type === stringType) this.skip(this.u64())
      else this.value(arrayType, depth)
    }
  }

  wrong = false
}

/** `more`: the beginning is longer than what was read of it. Otherwise what is wrong. */
export type HeaderFault = { readonly more: true } | { readonly more: false; readonly reason: string }

const wrong = (reason: string) => Either.left<HeaderFault>({ more: false, reason })
const incomplete = Either.left<HeaderFault>({ more: true })

/** Whether these first bytes of a file can be those of a model: `undefined`, or what is wrong. */
export const checkMagic = (bytes: Uint8Array): string | undefined => {
  const magic = new TextDecoder("latin1").decode(bytes.subarray(0, 4))
  if (magic !== "GGUF".slice(0, magic.length)) {
    const start = new TextDecoder("latin1").decode(bytes.subarray(0, 256)).trimStart().toLowerCase()
    if (start.startsWith("<!doctype html") || start.startsWith("<html")) return "it is a web page, and not a GGUF file"
    if (start.startsWith("version https://git-lfs"))
      return "it is the pointer of a Git LFS file, and not the file itself"
    return "it is not a GGUF file"
  }
  if (bytes.length < 8) return undefined
  const version = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(4, true)
  if (version === 2 || version === 3) return undefined
  return (version & 0xffff) === 0
    ? "it is made for machines of the other byte order"
    : `its version of GGUF, ${version}, is not known (2 and 3 are)`
}

const isCount = (value: unknown): value is number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0

/** What the beginning of a file says. `fileSize` is that of the whole file, in bytes. */
export const readHeader = (bytes: Uint8Array, fileSize: number): Either.Either<ModelMetadata, HeaderFault> => {
  const fault = checkMagic(bytes)
  if (fault !== undefined) return wrong(fault)
  const cursor = new Cursor(bytes)
  cursor.skip(4)
  const version = cursor.u32()
  const tensors = cursor.u64()
  const entries = cursor.u64()
  if (cursor.short) return incomplete
  if (entries > maxEntries || tensors > maxEntries) return wrong("its header is damaged")
  const known = new Map<string, number | string | boolean | undefined>()
  for (let i = 0; i < entries; i++) {
    const key = cursor.text()
    const type = cursor.u32()
    if (cursor.short) return incomplete
    if (type > 12) return wrong("its header is damaged")
    const value = cursor.value(type)
    if (cursor.wrong) return wrong("its header is damaged")
    if (cursor.short) return incomplete
    known.set(key, key === "tokenizer.chat_template" ? value !== "" : value)
  }
  let parameters = 0
  let end = 0
  for (let i = 0; i < tensors; i++) {
    cursor.text()
    const dimensions = cursor.u32()
    if (dimensions > 8) return wrong("its header is damaged")
    let count = 1
    for (let d = 0; d < dimensions; d++) count *= cursor.u64()
    const type = cursor.u32()
    const offset = cursor.u64()
    if (cursor.short) return incomplete
    const [numbers, size] = blockSizes[type] ?? [count, 1]
    parameters += count
    end = Math.max(end, offset + (count / Math.max(1, numbers)) * size)
  }
  const text = (key: string) => {
    const value = known.get(key)
    return typeof value === "string" && value !== "" ? value.slice(0, 200) : undefined
  }
  const count = (key: string) => {
    const value = known.get(key)
    return isCount(value) ? value : undefined
  }
  const alignment = Math.max(1, count("general.alignment") ?? 32)
  const data = Math.ceil(cursor.at / alignment) * alignment
  if (data + end > fileSize) return wrong(`it is incomplete: ${fileSize} of ${data + end} bytes`)
  const architecture = text("general.architecture")
  const optional = <K extends keyof ModelMetadata>(key: K, value: ModelMetadata[K] | undefined) =>
    value === undefined ? {} : { [key]: value }
  return Either.right({
    version,
    ...optional("architecture", architecture),
    ...optional("title", text("general.name")),
    ...optional("parameters", Number.isFinite(parameters) && parameters > 0 ? parameters : undefined),
    ...optional("quantisation", fileTypes[count("general.file_type") ?? -1]),
    ...optional("contextLength", count(`${architecture}.context_length`)),
    ...optional("embeddingLength", count(`${architecture}.embedding_length`)),
    ...optional("layers", count(`${architecture}.block_count`)),
    ...optional("licence", text("general.license")),
    ...optional("parts", count("split.count")),
    chatTemplate: known.get("tokenizer.chat_template") === true
  })
}
