/** What installing a package brings: the files of it and of all that it needs, as they lie in node_modules. */
import { execFileSync } from "node:child_process"
import { existsSync, lstatSync, readdirSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"

export interface InstallSize {
  readonly title: string
  readonly bytes: number
  readonly packages: number
}

interface Manifest {
  readonly dependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>
}

const manifestOf = (folder: string): Manifest => JSON.parse(readFileSync(join(folder, "package.json"), "utf8"))

/** A package's own files, without packages inside of it. */
const sizeOf = (folder: string): number =>
  readdirSync(folder, { withFileTypes: true }).reduce((bytes, entry) => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return entry.name === "node_modules" ? bytes : bytes + sizeOf(path)
    return bytes + lstatSync(path).size
  }, 0)

/** Where a package finds another one. */
const find = (name: string, from: string): string | undefined => {
  const path = join(from, "node_modules", name)
  if (existsSync(path)) return path
  const above = dirname(from)
  return above === from ? undefined : find(name, above)
}

/** What npm installs with it: dependencies, and peers that are not optional. */
const neededBy = (folder: string): ReadonlyArray<string> => {
  const { dependencies = {}, peerDependencies = {}, peerDependenciesMeta = {} } = manifestOf(folder)
  const peers = Object.keys(peerDependencies).filter((name) => peerDependenciesMeta[name]?.optional !== true)
  return [...Object.keys(dependencies), ...peers]
}

const below = (folder: string, found = new Set<string>()): ReadonlySet<string> => {
  for (const name of neededBy(folder)) {
    const path = find(name, folder)
    if (path === undefined || found.has(path)) continue
    found.add(path)
    below(path, found)
  }
  return found
}

const packedSize = (root: string): number => {
  const args = ["pack", "--dry-run", "--json", "--ignore-scripts", "--loglevel=error"]
  const [packed] = JSON.parse(execFileSync("npm", args, { cwd: root, encoding: "utf8", maxBuffer: 1 << 26 }))
  return packed.unpackedSize
}

/** Ours as it would be packed now, and others as they are installed. */
export const installSizes = (root: string, others: ReadonlyArray<string>): ReadonlyArray<InstallSize> => {
  const total = (title: string, own: number, folder: string): InstallSize => {
    const needed = [...below(folder)]
    return { title, bytes: needed.reduce((bytes, path) => bytes + sizeOf(path), own), packages: needed.length + 1 }
  }
  return [
    total("aicortex", packedSize(root), root),
    ...others.map((name) => {
      const folder = join(root, "node_modules", name)
      return total(name, sizeOf(folder), folder)
    })
  ]
}
