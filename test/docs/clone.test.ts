/** In a clone, the commands of the README give all that its examples need. */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { missingClaim, pages, root } from "../support/docs/pages.js"
import { openWorkshop, type Workshop } from "../support/docs/workshop.js"

const readme = pages.find(({ path }) => path === "README.md") ?? assert.fail("there is no README.md")
const command = `eval "$(npm run -s setup)"`

let workshop: Workshop
beforeAll(async () => {
  workshop = await openWorkshop()
}, 600_000)
afterAll(() => workshop.close())

describe("in a clone", { timeout: 600_000 }, () => {
  it("one command prepares the blocks in the terminal", async () => {
    const at = (code: string) =>
      readme.blocks.findIndex((block) => block.language === "sh" && block.code.includes(code))
    assert.isAtLeast(at(command), 0)
    assert.isBelow(at(command), at("aicortex servers add"))
    const script = `cd '${root}' && PATH="$CLONE_PATH"; ${command}\naicortex --version && git -C . --version | aicortex help >/dev/null`
    const { code, stderr, stdout } = await workshop.run(workshop.desk(), "sh", ["-c", script], {
      // Without the command that the workshop has.
      CLONE_PATH: process.env["PATH"]
    })
    assert.strictEqual(code, 0, stderr)
    assert.match(stdout, /^\d+\.\d+\.\d+\n/)
  })

  for (const block of readme.blocks.filter(({ language }) => language === "ts")) {
    it(`README.md:${block.line} runs with npm run example`, async () => {
      const desk = workshop.desk()
      const file = join(desk.work, "saved.ts")
      writeFileSync(file, block.code)
      const { code, stderr, stdout } = await workshop.run(desk, "sh", ["-c", `npm run -s example -- '${file}'`])
      assert.strictEqual(code, 0, stderr)
      assert.isUndefined(missingClaim(block.code, stdout), stdout)
    })
  }
})
