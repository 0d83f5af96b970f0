/** What an engine imports of its library. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { getLlama, LlamaGrammarEvaluationState, LlamaLogLevel, TokenBias } from "node-llama-cpp"
import { expect, it } from "vitest"
import { importParts } from "../../src/cli/engine/libraryParts.js"

it("has the same exports as the index", async () => {
  const parts = await importParts()
  expect(parts?.getLlama).toBe(getLlama)
  expect(parts?.LlamaLogLevel).toBe(LlamaLogLevel)
  expect(parts?.LlamaGrammarEvaluationState).toBe(LlamaGrammarEvaluationState)
  expect(parts?.TokenBias).toBe(TokenBias)
})

it("uses the installed package if the command line bundles another version", async () => {
  const folder = mkdtempSync(join(tmpdir(), "aicortex-parts-"))
  try {
    writeFileSync(join(folder, "node-llama-cpp-0.0.1.js"), "export const getLlama = 1")
    const parts = await importParts(undefined, pathToFileURL(`${folder}/`))
    expect(parts?.getLlama).toBe(getLlama)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})

it("uses nothing of a version with another layout, or without a package", async () => {
  const folder = mkdtempSync(join(tmpdir(), "aicortex-parts-"))
  try {
    const from = pathToFileURL(join(folder, "main.js")).href
    expect(await importParts(from)).toBeUndefined()
    const library = join(folder, "node_modules/node-llama-cpp")
    mkdirSync(join(library, "dist"), { recursive: true })
    writeFileSync(join(library, "package.json"), '{ "type": "module", "main": "dist/index.js" }')
    writeFileSync(join(library, "dist/index.js"), "export const getLlama = () => {}")
    expect(await importParts(from)).toBeUndefined()
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})
