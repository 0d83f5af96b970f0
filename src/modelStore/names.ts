/** Names of models, and of the folders and files that they are kept in: none of them can leave the store. */

/**
 * How long the name of a model may be: that of its folder is as long, and 255 bytes are the most that file systems
 * take.
 */
const maxName = 180

const part = /^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?$/

/**
 * Whether a text may be the name of a model: parts of letters, digits, `.`, `_` and `-`, between them `/` and a `:`.
 */
export const isModelName = (name: string): boolean => {
  if (name.length === 0 || name.length > maxName) return false
  const [path = "", tag, ...more] = name.split(":")
  return (
    more.length === 0 &&
    [...path.split("/"), ...(tag === undefined ? [] : [tag])].every((one) => part.test(one) && !one.includes(".."))
  )
}

/** The form in which names are compared: file systems may not distinguish capital letters either. */
export const canonicalName = (name: string): string => name.toLowerCase()

/** What stands before the name of each folder: no device of Windows is called so. */
const prefix = "model-"

/** The name of the folder of a model. Different names have different ones. */
export const folderOf = (name: string): string =>
  `${prefix}${canonicalName(name).replace(/\//g, "@").replace(/:/g, "+")}`

/** Whether a folder of the store is that of a model. */
export const isModelFolder = (folder: string): boolean => folder.startsWith(prefix)

/** `-00002-of-00003` at the end of a name: the number of this part, and how many there are. */
const splitPattern = /-(\d{5})-of-(\d{5})$/

/** The part and the number of parts in a file's name. */
export const splitOf = (
  file: string
): { readonly base: string; readonly part: number; readonly count: number } | undefined => {
  const stem = file.replace(/\.gguf$/i, "")
  const match = splitPattern.exec(stem)
  if (match === null) return undefined
  return { base: stem.slice(0, match.index), part: Number(match[1]), count: Number(match[2]) }
}

/** The name of one of the parts of a model. */
export const splitName = (base: string, part: number, count: number): string =>
  `${base}-${String(part).padStart(5, "0")}-of-${String(count).padStart(5, "0")}.gguf`

/** The most parts of one model. */
export const maxParts = 1000

const clean = (text: string): string =>
  text
    .replace(/[^A-Za-z0-9._-]+/g, "-")
    .replace(/\.{2,}/g, ".")
    .slice(0, 120)
    .replace(/^[^A-Za-z0-9]+/, "")
    .replace(/[^A-Za-z0-9_-]+$/, "")

/** The name that a model gets from its file: without `.gguf`, the number of its part, and what names may not hold. */
export const stemOf = (file: string): string => {
  const stem = splitOf(file)?.base ?? file.replace(/\.gguf$/i, "")
  const name = clean(stem)
  return name === "" ? "model" : name
}

/** What Windows takes for a device, whatever follows a dot. */
const device = /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i

/**
 * The name under which a file is kept, made of the one that it has elsewhere: only letters, digits, `.`, `_` and `-`.
 * Parts keep their numbers: engines find the others by them.
 */
export const keptName = (file: string): string => {
  const last = file.split(/[\\/]/).at(-1) ?? ""
  const stem = stemOf(last)
  const base = device.test(stem) ? `${prefix}${stem}` : stem
  const split = splitOf(last)
  return split === undefined ? `${base}.gguf` : splitName(base, split.part, split.count)
}
