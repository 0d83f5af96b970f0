/** What the documentation promises to hold, compared with the source. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "vitest"
import { Routing } from "../../src/ChatRequest.js"
import * as Errors from "../../src/Errors.js"
import { document } from "../../src/gateway/routes.js"
import { anchorsOf, pages, readme, root } from "../support/docs/pages.js"

const page = (path: string) => readFileSync(join(root, path), "utf8")

describe("README.md", () => {
  it("is at most 8 KB", () => {
    assert.isAtMost(Buffer.byteLength(readme.text), 8 * 1024)
  })

  it("shows a recorded session, in which an answer is resumed", () => {
    const file = /!\[[^\]]+\]\((docs\/assets\/[\w-]+\.svg)\)/.exec(readme.text)?.[1]
    const svg = page(file ?? assert.fail("there is no SVG"))
    const shown = [...svg.matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map(([, text]) => text).join("")
    assert.match(shown, /^\$ aicortex chat .*from every direction of the sky\..* goes on\$ .*kill -9/)
    assert.notMatch(svg, /<script|\son\w+=|href|url\(/)
  })
})

describe("docs/", () => {
  it("installs compatible versions", () => {
    const { peerDependencies } = JSON.parse(page("package.json"))
    const lines = pages.flatMap(({ text }) => text.match(/^npm install .+$/gm) ?? []).join(" ")
    for (const [name, range] of Object.entries<string>(peerDependencies)) {
      // The command is bundled.
      if (name === "@effect/cli") continue
      // What converts the schemas of a library comes with that library, in any version.
      if (range === "*") continue
      const version = new RegExp(` ${name}(?:@(\\S+))?(?= |$)`).exec(lines)
      assert.isNotNull(version, name)
      if (/^(@effect\/|effect$)/.test(name)) {
        assert.isTrue(range.startsWith(`^${version?.[1]}.`), `${name}@${version?.[1]}`)
      }
    }
  })

  it("documents every error, with an anchor for each tag", () => {
    const tags = Object.values(Errors).flatMap((one) =>
      typeof one === "function" && "_tag" in one && typeof one._tag === "string" ? [one._tag] : []
    )
    assert.include(tags, "NoServers")
    const anchors = anchorsOf(page("docs/errors.md"))
    assert.deepStrictEqual(
      tags.filter((tag) => !anchors.has(tag.toLowerCase())),
      []
    )
  })

  it("has a row for every routing strategy", () => {
    const rows = [...page("docs/routing.md").matchAll(/^\| `([\w-]+)` \|/gm)].map(([, name]) => name)
    assert.includeMembers(rows, [...Routing.literals])
  })

  it("names every endpoint of the gateway", () => {
    const text = pages.flatMap(({ path, text }) => (path.startsWith("docs/gateway/") ? [text] : [])).join("\n")
    const paths = Object.keys(document().paths)
    assert.isAbove(paths.length, 20)
    assert.deepStrictEqual(
      paths.filter((path) => !text.includes(` ${path}\``) && !text.includes(`\`${path}\``)),
      []
    )
  })
})
