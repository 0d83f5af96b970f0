/** Small GGUF files: real headers, random weights. */
import { randomBytes } from "node:crypto"

type Value = string | number | boolean | ReadonlyArray<string>

const u32 = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

const u64 = (value: number) => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

const text = (value: string) => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)])

const entry = (key: string, value: Value): Buffer => {
  if (typeof value === "string") return Buffer.concat([text(key), u32(8), text(value)])
  if (typeof value === "number") return Buffer.concat([text(key), u32(4), u32(value)])
  if (typeof value === "boolean") return Buffer.concat([text(key), u32(7), Buffer.from([value ? 1 : 0])])
  return Buffer.concat([text(key), u32(9), u32(8), u64(value.length), ...value.map(text)])
}

export interface GgufOptions {
  readonly version?: number
  /** How many bytes of weights: F32, so a multiple of 4. */
  readonly weights?: number
  readonly entries?: { readonly [key: string]: Value }
  /** How many texts its vocabulary has. */
  readonly vocabulary?: number
}

/** The bytes of a model file. */
export const gguf = ({ entries = {}, version = 3, vocabulary = 100, weights = 4096 }: GgufOptions = {}): Buffer => {
  const all: { readonly [key: string]: Value } = {
    "general.architecture": "llama",
    "general.name": "Tiny",
    "general.file_type": 15,
    "llama.context_length": 2048,
    "llama.embedding_length": 64,
    "llama.block_count": 2,
    "tokenizer.chat_template": "{{ messages }}",
    "tokenizer.ggml.tokens": Array.from({ length: vocabulary }, (_, i) => `token-${i}`),
    ...entries
  }
  const head = Buffer.concat([
    Buffer.from("GGUF"),
    u32(version),
    u64(1),
    u64(Object.keys(all).length),
    ...Object.entries(all).map(([key, value]) => entry(key, value)),
    text("blk.0.weight"),
    u32(1),
    u64(weights / 4),
    u32(0),
    u64(0)
  ])
  const padding = Buffer.alloc((32 - (head.length % 32)) % 32)
  return Buffer.concat([head, padding, randomBytes(weights)])
}
