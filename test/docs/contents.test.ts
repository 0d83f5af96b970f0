/** What the documentation promises to hold, compared with the source. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import * as Arbitrary from "effect/Arbitrary"
import * as FastCheck from "effect/FastCheck"
import type * as Schema from "effect/Schema"
import { assert, describe, it } from "vitest"
import { Routing } from "../../src/ChatRequest.js"
import * as Errors from "../../src/Errors.js"
import { fromError, type Labels } from "../../src/gateway/http/errorResponse.js"
import { document } from "../../src/gateway/routes.js"
import { anchorsOf, pages, readme, root } from "../support/docs/pages.js"

const page = (path: string) => readFileSync(join(root, path), "utf8")

const errorClasses = Object.values(Errors).flatMap((one) =>
  typeof one === "function" && "_tag" in one && typeof one._tag === "string"
    ? [one as unknown as Schema.Schema<Errors.ChatError> & { readonly _tag: string }]
    : []
)

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
    const tags = errorClasses.map(({ _tag }) => _tag)
    assert.include(tags, "NoServers")
    const anchors = anchorsOf(page("docs/errors.md"))
    assert.deepStrictEqual(
      tags.filter((tag) => !anchors.has(tag.toLowerCase())),
      [],
      "these have no section in docs/errors.md"
    )
  })

  it("gives the status and the code that each error has at the gateway", () => {
    const text = page("docs/errors.md")
    const labels = { redact: (message: string) => message, label: (url: string) => url } as Labels
    for (const one of errorClasses) {
      const statuses = new Set<string>()
      const codes = new Set<string>()
      const see = (error: object) => {
        const { code, status } = fromError(error, labels)
        if (code === "internal_error") return
        statuses.add(String(status))
        if (code !== null) codes.add(code)
      }
      for (const error of FastCheck.sample(Arbitrary.make(one), {
        numRuns: one._tag === "AllServersFailed" ? 400 : 40,
        seed: 1
      })) {
        // Any number is not a time.
        if ("resetsAt" in error) Object.assign(error, { resetsAt: 0 })
        see(error)
        // Where all attempts ended alike.
        if (error._tag === "AllServersFailed" && error.attempts[0] !== undefined)
          see(Object.assign(error, { attempts: error.attempts.slice(0, 1) }))
      }
      const cell = new RegExp(`^\\| .*\\[\`${one._tag}\`\\].*\\|([^|]*)\\|$`, "m").exec(text)?.[1] ?? ""
      const written = (pattern: RegExp) => [...new Set(cell.match(pattern))].sort()
      const said = { statuses: written(/\b\d{3}\b/g), codes: written(/(?<=`)[a-z_]+(?=`)/g) }
      assert.deepStrictEqual(said, { statuses: [...statuses].sort(), codes: [...codes].sort() }, one._tag)
    }
  })

  it("has a row for every routing strategy", () => {
    const rows = [...page("docs/routing.md").matchAll(/^\| `([\w-]+)` \|/gm)].map(([, name]) => name)
    assert.includeMembers(rows, [...Routing.literals], "a row of the first table in docs/routing.md is missing")
  })

  it("names every endpoint of the gateway", () => {
    const text = pages.flatMap(({ path, text }) => (path.startsWith("docs/gateway/") ? [text] : [])).join("\n")
    const paths = Object.keys(document().paths)
    assert.isAbove(paths.length, 20)
    assert.deepStrictEqual(
      paths.filter((path) => !text.includes(` ${path}\``) && !text.includes(`\`${path}\``)),
      [],
      "these are on no page of docs/gateway/"
    )
  })
})
