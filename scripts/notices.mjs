/**
 * The licences of the packages whose code a bundle holds: their terms ask for the text to go wherever the code goes.
 */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"

const licenceFile = /^(licen[cs]e|copying|notice)([-._].*)?$/i

/** What a package means that names MIT and its author, and holds no text. */
const mit = (/** @type {string} */ author) => `MIT License

Copyright (c) ${author}

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.`

/**
 * The folders of the packages that went into a bundle, sorted.
 *
 * @type {(metafile: import("esbuild").Metafile) => ReadonlyArray<string>}
 */
export const packagesOf = ({ inputs }) => {
  const folders = Object.keys(inputs).flatMap(
    (input) => /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(input)?.[0] ?? []
  )
  return [...new Set(folders)].sort()
}

const textOf = (/** @type {string} */ folder, /** @type {any} */ { author, license, name }) => {
  const files = readdirSync(folder).filter((file) => licenceFile.test(file))
  if (files.length > 0) return files.map((file) => readFileSync(join(folder, file), "utf8").trim()).join("\n\n")
  const holder = typeof author === "string" ? author : author?.name
  if (license === "MIT" && holder !== undefined) return mit(holder)
  throw new Error(`${name} is bundled and holds no text of its licence (${license}): see scripts/notices.mjs`)
}

/**
 * Name, version and licence of every package of a bundle that was built in `root`.
 *
 * @type {(metafile: import("esbuild").Metafile, root: string) => string}
 */
export const notices = (metafile, root) => {
  const entries = packagesOf(metafile).map((path) => {
    const folder = join(root, path)
    const own = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"))
    return `${own.name} ${own.version} (${own.license})\n\n${textOf(folder, own)}\n`
  })
  const line = `\n${"-".repeat(80)}\n\n`
  return `What aicortex bundles (dist/bin/, dist/bundle/ and dist/dashboard/) holds code of these packages.\n${line}${entries.join(line)}`
}
