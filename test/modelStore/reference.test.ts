import { join, normalize, sep } from "node:path"
import * as Either from "effect/Either"
import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import { folderOf, isModelName, keptName, stemOf } from "../../src/modelStore/names.js"
import { isAmbiguous, parseReference } from "../../src/modelStore/reference.js"

const parsed = (name: string) => Either.getOrThrow(parseReference(name))
const hub = (owner: string, repo: string, more: object = {}) => ({
  kind: "hub",
  owner,
  repo,
  revision: "main",
  ...more
})

describe("model names", () => {
  it.each([
    ["owner/repo", hub("owner", "repo", { name: "owner/repo" })],
    ["owner/Repo-GGUF:q4_k_m", hub("owner", "Repo-GGUF", { name: "owner/Repo-GGUF:Q4_K_M", quantisation: "Q4_K_M" })],
    ["owner/repo:latest", hub("owner", "repo", { name: "owner/repo" })],
    ["hf:owner/repo", hub("owner", "repo")],
    ["hf://owner/repo:Q8_0", hub("owner", "repo", { quantisation: "Q8_0" })],
    ["huggingface://owner/repo", hub("owner", "repo")],
    ["hf.co/owner/repo:IQ4_XS", hub("owner", "repo", { quantisation: "IQ4_XS" })],
    ["https://huggingface.co/owner/repo", hub("owner", "repo")],
    ["https://huggingface.co/owner/repo/tree/main", hub("owner", "repo")],
    ["https://huggingface.co/owner/repo/blob/v2/a/b.gguf", hub("owner", "repo", { revision: "v2", file: "a/b.gguf" })],
    [
      "https://huggingface.co/owner/repo/resolve/main/b%20c.gguf?download=true",
      hub("owner", "repo", { file: "b c.gguf", name: "owner/repo/b-c.gguf" })
    ],
    ["owner/repo/sub/file.Q4_K_M.gguf", hub("owner", "repo", { file: "sub/file.Q4_K_M.gguf" })],
    ["owner/repo:file.gguf", hub("owner", "repo", { file: "file.gguf" })],
    [
      "https://example.com/a/tiny.gguf?x=1#y",
      { kind: "url", name: "tiny", url: "https://example.com/a/tiny.gguf?x=1" }
    ],
    ["http://127.0.0.1:1/big-00001-of-00003.gguf", { kind: "url", name: "big" }],
    ["file:///models/a%20b.gguf", { kind: "file", path: "/models/a b.gguf", name: "a-b" }],
    ["file:models/a.gguf", { kind: "file", path: "models/a.gguf", name: "a" }],
    ["file://localhost/a.gguf", { kind: "file", path: "/a.gguf" }],
    ["file:///C:/models/a.gguf", { kind: "file", path: "C:/models/a.gguf" }],
    ["/models/a.gguf", { kind: "file", path: "/models/a.gguf" }],
    ["./a/b/c.gguf", { kind: "file", path: "./a/b/c.gguf" }],
    ["../c.gguf", { kind: "file" }],
    ["~/c.gguf", { kind: "file" }],
    ["C:\\models\\c.gguf", { kind: "file", name: "c" }],
    ["c.gguf", { kind: "file", path: "c.gguf" }],
    ["models/c.gguf", { kind: "file", path: "models/c.gguf" }],
    [
      "llama3.1:8b-gguf-q4-km",
      { kind: "cortex", repo: "llama3.1", branch: "8b-gguf-q4-km", name: "llama3.1:8b-gguf-q4-km" }
    ],
    ["tinyllama:gguf", { kind: "cortex", repo: "tinyllama", branch: "gguf" }],
    ["cortexso/llama3.2:3b-gguf-q8-0", { kind: "cortex", repo: "llama3.2", branch: "3b-gguf-q8-0" }],
    ["cortexso/llama3.2", { kind: "cortex", repo: "llama3.2", name: "llama3.2" }],
    ["cortex:llama3.2", { kind: "cortex", repo: "llama3.2" }],
    ["llama3.2:3b", { kind: "ollama", name: "llama3.2:3b" }],
    ["  llama3.2  ", { kind: "ollama", name: "llama3.2" }],
    ["ollama:user/model:tag", { kind: "ollama", name: "user/model:tag" }],
    ["registry.ollama.ai/library/llama3.2:3b", { kind: "ollama", name: "llama3.2:3b" }],
    ["ollama.com/library/llama3.2", { kind: "ollama", name: "llama3.2" }]
  ])("%s", (name, expected) => expect(parsed(name)).toMatchObject(expected))

  it.each([
    "",
    "   ",
    "a b",
    "owner/",
    "owner/../repo",
    "owner/repo/../../x.gguf",
    "owner/repo/file.bin",
    "owner/repo:a b",
    "hf:",
    "hf:owner",
    "hf:../x",
    "s3://bucket/x.gguf",
    "ftp://host/x.gguf",
    "https://",
    "https://host/page.html",
    "https://user:pass@host/x.gguf",
    "file://other-machine/x.gguf",
    "file:",
    "a\u0000b",
    "-x",
    "x".repeat(3000),
    "https://huggingface.co/owner/repo/discussions/1",
    "llama3.1:8b-gguf-q4 km"
  ])("%j is invalid", (name) => {
    const error = Either.getOrThrow(Either.flip(parseReference(name)))
    expect(error._tag).toBe("InvalidModelReference")
    expect(error.message).not.toContain("pass@")
  })

  it("only a name with two or more slashes may be a local file or a file of a repository", () => {
    expect(isAmbiguous("registry/demo/aicortex-demo.gguf")).toBe(true)
    for (const one of ["owner/repo", "./a/b/c.gguf", "/a/b/c.gguf", "hf:a/b/c.gguf", "a/c.gguf"]) {
      expect(isAmbiguous(one), one).toBe(false)
    }
  })
})

/** Texts that try to lead out of a folder. */
const hostile = fc.oneof(
  fc.string({ unit: "binary", maxLength: 60 }),
  fc
    .array(
      fc.constantFrom(
        ...["..", ".", "\\", "\u0000", "C:", "con", "NUL", "aux.gguf", "COM1", "a", "-00001-of-00002", ".gguf", " "],
        ...["~", "%2e%2e", "%2F", "\u202e", "ä", ":", "@", "+", "model.json", ".part"]
      ),
      { maxLength: 12 }
    )
    .map((parts) => parts.join(""))
)

describe("names cannot escape the store", () => {
  it("a file is stored under a name without folders, whatever its original name", () => {
    fc.assert(
      fc.property(hostile, (name) => {
        const kept = keptName(name)
        expect(kept).toMatch(/^[A-Za-z0-9][A-Za-z0-9._-]*\.gguf$/)
        expect(kept.length).toBeLessThanOrEqual(160)
        expect(kept).not.toMatch(/^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i)
        expect(normalize(join("/store/model", kept))).toBe(`/store/model/${kept}`)
        expect(isModelName(stemOf(name))).toBe(true)
      }),
      { numRuns: 3000 }
    )
  })

  it("the folder of a model is inside the store, and unique to its name", () => {
    const names = fc.oneof(
      hostile,
      fc.stringMatching(/^[a-zA-Z0-9._-]{1,12}(\/[a-zA-Z0-9._-]{1,8}){0,2}(:[a-zA-Z0-9._-]{1,8})?$/)
    )
    fc.assert(
      fc.property(names, names, (one, other) => {
        fc.pre(isModelName(one))
        const folder = folderOf(one)
        expect(folder).not.toContain(sep)
        expect(folder).not.toContain("\\")
        expect(normalize(join("/store", folder))).toBe(`/store/${folder}`)
        expect(folder.length).toBeLessThanOrEqual(200)
        if (isModelName(other) && one.toLowerCase() !== other.toLowerCase()) expect(folderOf(other)).not.toBe(folder)
      }),
      { numRuns: 3000 }
    )
  })

  it("a resolved name can be stored, or is an error", () => {
    fc.assert(
      fc.property(hostile, (text) => {
        const reference = parseReference(text)
        if (Either.isRight(reference)) expect(isModelName(reference.right.name)).toBe(true)
      }),
      { numRuns: 3000 }
    )
  })
})
