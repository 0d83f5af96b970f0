/**
 * What neither biome nor dependency-cruiser checks: the length of files, floors that match no module, how folders are
 * made, where tests stand, and that the guide to the folders names what is there. Run by `npm run lint`.
 */
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import config from "../.dependency-cruiser.mjs"

const root = fileURLToPath(new URL("..", import.meta.url))
/** Without doc comments: nobody leaves one out to stay below it. */
const maxLines = 400

/** @returns {Array<string>} */
const filesIn = (/** @type {string} */ folder) =>
  readdirSync(`${root}/${folder}`, { recursive: true, encoding: "utf8" }).map(
    (name) => `${folder}/${name.replaceAll("\\", "/")}`
  )

const sources = filesIn("src").filter((file) => /\.tsx?$/.test(file))
/** @type {Array<string>} */
const problems = []

for (const file of sources) {
  const text = readFileSync(`${root}/${file}`, "utf8")
  const lines = text.replace(/^ *\/\*\*(?:(?!\*\/).)*\*\/\n/gms, "").split("\n").length - 1
  if (lines > maxLines)
    problems.push(`${file} has ${lines} lines; at most ${maxLines} are allowed: split it by concept`)
  if (/\b(mkdir|mkdirSync|makeDirectory)\((?:[^()]|\([^()]*\))*recursive:/.test(text))
    problems.push(`${file}: make folders with internal/makeFolder: Node's own recursion never ends below /proc`)
}

/** Every pattern of a path under src/ that a rule names. */
const patterns = new Set(
  JSON.stringify(config.forbidden)
    .match(/"\^src\/(?:[^"\\]|\\.)*"/g)
    ?.map((text) => JSON.parse(text))
)
for (const pattern of patterns) {
  if (!pattern.includes("\\.d\\.ts") && !sources.some((file) => new RegExp(pattern).test(file))) {
    problems.push(`.dependency-cruiser.mjs: ${pattern} matches no module`)
  }
}

for (const file of filesIn("test")) {
  if (/^test\/[^/]+\.test\.ts$/.test(file))
    problems.push(`${file} must stand in a folder of test/, as its subject does in src/`)
}

/** The rows of the guide: a folder, and what is in it. */
const guide = new Map(
  [...readFileSync(`${root}/CONTRIBUTING.md`, "utf8").matchAll(/^\| `([\w/]+)\/` \| (.*) \|$/gm)].map(
    ([, folder = "", text = ""]) => [folder, text]
  )
)
for (const [folder, text] of guide) {
  for (const [, name] of text.matchAll(/`(\w+)`/g)) {
    const isThere = (/** @type {string} */ file) =>
      file === `src/${name}.ts` ||
      (file.startsWith(`src/${folder}/`) && (file.includes(`/${name}/`) || /([^/]+)\.tsx?$/.exec(file)?.[1] === name))
    if (!sources.some(isThere))
      problems.push(`CONTRIBUTING.md: \`${name}\` is not in src/${folder}/: name what is there`)
  }
}
const folders = new Set(sources.flatMap((file) => /^src\/((?:gateway\/)?\w+)\//.exec(file)?.[1] ?? []))
for (const folder of folders) {
  if (!guide.has(folder))
    problems.push(`CONTRIBUTING.md says nothing of src/${folder}/: add a row to the table of folders`)
}

for (const problem of problems) console.error(problem)
process.exitCode = problems.length === 0 ? 0 : 1
