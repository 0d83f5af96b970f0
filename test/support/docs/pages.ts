/** The pages of the documentation and the code blocks in them. */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

export const root = fileURLToPath(new URL("../../..", import.meta.url))

/** All files below a directory, as paths from the root. */
export const filesBelow = (directory: string): ReadonlyArray<string> =>
  readdirSync(join(root, directory), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length).replaceAll("\\", "/"))
    .sort()

export interface Block {
  readonly page: string
  /** Its first line in the page. */
  readonly line: number
  /** The first word behind the fence. */
  readonly language: string
  /** The rest behind the fence: the file that the block is. */
  readonly file: string | undefined
  readonly code: string
}

export interface Page {
  /** Path from the root. */
  readonly path: string
  readonly text: string
  readonly blocks: ReadonlyArray<Block>
}

const fence = /^```([^\n`]*)\n([\s\S]*?)^```$/gm

/** A page without its code blocks: links and titles are looked for only there. */
const prose = (text: string): string => text.replace(fence, "")

const blocksOf = (path: string, text: string): ReadonlyArray<Block> =>
  [...text.matchAll(fence)].map((match) => {
    const [language = "", ...rest] = (match[1] ?? "").trim().split(/\s+/)
    return {
      page: path,
      line: text.slice(0, match.index).split("\n").length + 1,
      language,
      file: rest.length === 0 ? undefined : rest.join(" "),
      code: match[2] ?? ""
    }
  })

const read = (path: string): Page => {
  const text = readFileSync(join(root, path), "utf8")
  return { path, text, blocks: blocksOf(path, text) }
}

export const readme = read("README.md")

/** README.md, everything in docs/, and the list of examples. */
export const pages: ReadonlyArray<Page> = [
  readme,
  ...filesBelow("docs")
    .filter((path) => path.endsWith(".md"))
    .map(read),
  read("examples/README.md")
]

/** The programs in examples/. */
export const examples: ReadonlyArray<string> = filesBelow("examples").filter((path) => path.endsWith(".ts"))

/** What an example says that it prints: `// => …` or `# => …`. */
export const claims = (code: string): ReadonlyArray<string> =>
  [...code.matchAll(/(?:\/\/|#) => (.+)$/gm)].map((match) => (match[1] ?? "").trim())

/** The first claim that does not stand in the output, or stands there too early. */
export const missingClaim = (code: string, output: string): string | undefined => {
  let left = output.split("\n").map((line) => line.trim())
  for (const claim of claims(code)) {
    const at = left.indexOf(claim)
    if (at < 0) return claim
    left = left.slice(at + 1)
  }
  return undefined
}

/** The anchors that a renderer gives to the titles of a page. */
export const anchorsOf = (text: string): ReadonlySet<string> => {
  const seen = new Map<string, number>()
  const anchors = [...prose(text).matchAll(/^#+ (.+)$/gm)].map(([, title = ""]) => {
    const slug = title
      .toLowerCase()
      .replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
      .replace(/[^\p{L}\p{N}\s_-]/gu, "")
      .trim()
      .replace(/\s/g, "-")
    const times = seen.get(slug) ?? 0
    seen.set(slug, times + 1)
    return times === 0 ? slug : `${slug}-${times}`
  })
  const named = [...prose(text).matchAll(/<a (?:id|name)="([^"]+)"/g)].map(([, id = ""]) => id)
  return new Set([...anchors, ...named])
}

export interface Link {
  readonly page: string
  readonly target: string
}

/** All links and images of a page: inline ones, references, and HTML's. */
export const linksOf = ({ path, text }: { readonly path: string; readonly text: string }): ReadonlyArray<Link> => {
  const plain = prose(text).replace(/`[^`\n]*`/g, "")
  const targets = [
    ...plain.matchAll(/\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)/g),
    ...plain.matchAll(/^\[[^\]]+\]:\s*(\S+)/gm),
    ...plain.matchAll(/\b(?:href|src)="([^"]+)"/g)
  ]
  return targets.map(([, target = ""]) => ({ page: path, target }))
}
