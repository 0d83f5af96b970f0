/** Links of the documentation lead somewhere. Nothing is fetched: of addresses on the web only the form is checked. */
import { existsSync, readFileSync, statSync } from "node:fs"
import { dirname, join, normalize } from "node:path"
import { assert, describe, it } from "vitest"
import { anchorsOf, filesBelow, type Link, linksOf, pages, root } from "../support/docs/pages.js"

const others = ["CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "bench/README.md", "registry/demo/README.md"]
const all = [...pages, ...others.map((path) => ({ path, text: readFileSync(join(root, path), "utf8") }))]

/** What is wrong with a link, if something is. */
const problemOf = ({ page, target }: Link): string | undefined => {
  if (/^[a-z][a-z+.-]*:/i.test(target)) {
    if (/^mailto:[^@\s]+@[^@\s]+$/.test(target)) return undefined
    const url = URL.canParse(target) ? new URL(target) : undefined
    return url !== undefined && /^https?:$/.test(url.protocol) ? undefined : "is no address"
  }
  const [path = "", anchor] = target.split("#")
  if (path.startsWith("/")) return "is absolute"
  const file = path === "" ? page : normalize(join(dirname(page), decodeURIComponent(path)))
  if (file.startsWith("..")) return "leaves the repository"
  if (!existsSync(join(root, file))) return `${file} does not exist`
  if (anchor === undefined) return undefined
  if (statSync(join(root, file)).isDirectory() || !file.endsWith(".md")) return "an anchor in what is no page"
  return anchorsOf(readFileSync(join(root, file), "utf8")).has(anchor) ? undefined : `${file} has no #${anchor}`
}

describe("links", () => {
  it("lead to existing files and headings", () => {
    const broken = all.flatMap((page) =>
      linksOf(page).flatMap((link) => {
        const problem = problemOf(link)
        return problem === undefined ? [] : [`${link.page}: ${link.target}: ${problem}`]
      })
    )
    assert.deepStrictEqual(broken, [])
  })

  it("reach every page from README.md, and every asset from a page", () => {
    const reached = new Set<string>()
    const visit = (path: string) => {
      if (reached.has(path)) return
      reached.add(path)
      const page = pages.find((page) => page.path === path)
      if (page === undefined) return
      for (const { target } of linksOf(page)) {
        if (!/^[a-z][a-z+.-]*:|^#/i.test(target)) visit(normalize(join(dirname(path), target.split("#")[0] ?? "")))
      }
    }
    visit("README.md")
    const unreached = [...filesBelow("docs"), ...filesBelow("examples")].filter((path) => !reached.has(path))
    assert.deepStrictEqual(unreached, [])
  })

  it("control: broken links are found", () => {
    const text = [
      "# A title, and `code`",
      "[one](nowhere.md) [two](README.md#no-such-title) [three](#a-title-and-code) ![four](docs/assets/none.svg)",
      "[five](http://) [six](/etc/passwd) [seven]: not a reference `[eight](in-code.md)`",
      "[nine]: missing.md",
      "```ts",
      "// [ten](in-a-block.md)",
      "```"
    ].join("\n")
    const targets = linksOf({ path: "README.md", text })
    assert.deepStrictEqual(
      targets.filter((link) => problemOf(link) !== undefined).map(({ target }) => target),
      [
        "nowhere.md",
        "README.md#no-such-title",
        "#a-title-and-code",
        "docs/assets/none.svg",
        "http://",
        "/etc/passwd",
        "missing.md"
      ]
    )
    assert.isTrue(anchorsOf(text).has("a-title-and-code"))
  })
})
