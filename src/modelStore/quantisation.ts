/** The quantisations that a repository has, and which of them is taken. */
import { splitOf } from "./names.js"

/** A file of a repository. */
export interface RemoteFile {
  /** With its folders. */
  readonly path: string
  /** In bytes. */
  readonly size: number
  readonly sha256?: string | undefined
}

/**
 * One form of a model that a repository has.
 *
 * @since 0.3.0
 * @category models
 */
export interface Quantisation {
  /** Such as `Q4_K_M`; of a variant of Cortex's library its branch. */
  readonly name: string
  /** Of all its files, in bytes. */
  readonly size: number
  /** Its files in the repository. */
  readonly files: ReadonlyArray<string>
  /** Whether the memory that is free now is enough; `undefined` if unknown. */
  readonly fits: boolean | undefined
  /** Whether it is taken where none is named. */
  readonly chosen: boolean
}

/** Files that are one model: its parts. */
export interface Group {
  /** Such as `Q4_K_M`; none where the names do not say it. */
  readonly name: string | undefined
  readonly size: number
  readonly files: ReadonlyArray<RemoteFile>
  /** The parts that are missing. */
  readonly lacks: ReadonlyArray<number>
}

/**
 * The order in which they are taken, the first that fits: four bits are what most people use, as little is lost and
 * half the memory of eight is saved; then more bits, then less.
 */
const order = [
  "Q4_K_M",
  "Q4_K_S",
  "Q4_K_XL",
  "Q4_K_L",
  "IQ4_NL",
  "IQ4_XS",
  "Q4_0",
  "Q4_1",
  "MXFP4",
  "Q5_K_M",
  "Q5_K_S",
  "Q5_0",
  "Q5_1",
  "Q6_K",
  "Q8_0",
  "Q3_K_L",
  "Q3_K_M",
  "IQ3_M",
  "Q3_K_S",
  "IQ3_XS",
  "Q2_K",
  "IQ2_M",
  "BF16",
  "F16",
  "F32"
]

const pattern =
  /(?:^|[-._/])((?:UD-)?(?:IQ[1-4]_(?:XXS|XS|NL|S|M)|Q[2-8]_K(?:_(?:XXL|XL|L|M|S|P))?|Q[2-8]_[01](?:_\d_\d)?|TQ[12]_0|MXFP4(?:_MOE)?|BF16|FP?16|FP?32))(?=[-._/]|$)/gi

/** The quantization in a file's name; the last one if there are several. */
export const quantisationOf = (path: string): string | undefined => {
  const stem = path.replace(/\.gguf$/i, "").replace(/-\d{5}-of-\d{5}$/, "")
  const all = [...stem.matchAll(pattern)].map(([, name = ""]) => name.toUpperCase())
  return all.at(-1)?.replace(/^FP(16|32)$/, "F$1")
}

/** Files beside models that are none: what sees for them, and what they were quantised by. */
const isBeside = (path: string): boolean => /(^|[/._-])(mmproj|imatrix)/i.test(path)

/** The models among the files of a repository. */
export const groupsOf = (files: ReadonlyArray<RemoteFile>): ReadonlyArray<Group> => {
  const groups = new Map<string, Array<RemoteFile>>()
  for (const file of files) {
    if (!/\.gguf$/i.test(file.path) || isBeside(file.path)) continue
    const split = splitOf(file.path)
    const key = split === undefined ? file.path : `${split.base} ${split.count}`
    groups.set(key, [...(groups.get(key) ?? []), file])
  }
  return [...groups.values()].map((all) => {
    const sorted = [...all].sort((a, b) => (splitOf(a.path)?.part ?? 0) - (splitOf(b.path)?.part ?? 0))
    const [first] = sorted
    const count = first === undefined ? 0 : (splitOf(first.path)?.count ?? 0)
    const there = new Set(sorted.map(({ path }) => splitOf(path)?.part))
    return {
      name: first === undefined ? undefined : quantisationOf(first.path),
      size: sorted.reduce((sum, { size }) => sum + size, 0),
      files: sorted,
      lacks: Array.from({ length: Math.min(count, 1000) }, (_, i) => i + 1).filter((part) => !there.has(part))
    }
  })
}

/** The memory that a model needs in addition to its weights: context and buffers. */
const overhead = 1.2

/** Whether a model of this size can be loaded into the memory that is free; `undefined` if unknown. */
export const fitsInto = (size: number, available: number | undefined): boolean | undefined =>
  available === undefined ? undefined : size * overhead <= available

const rank = ({ name }: Group): number => {
  if (name === undefined) return order.length
  const at = order.indexOf(name.replace(/^UD-/, ""))
  // The plain one before the one that was made in another way.
  return (at === -1 ? order.length : at) + (name.startsWith("UD-") ? 0.5 : 0)
}

/** The one that is taken where none is named: the first in the usual order that fits; where none fits, the smallest. */
export const choose = <G extends Group>(groups: ReadonlyArray<G>, available: number | undefined): G | undefined => {
  const whole = groups.filter(({ lacks }) => lacks.length === 0)
  const fitting = whole.filter(({ size }) => fitsInto(size, available) !== false)
  if (fitting.length === 0) return [...whole].sort((a, b) => a.size - b.size)[0]
  return [...fitting].sort((a, b) => rank(a) - rank(b) || a.size - b.size)[0]
}
