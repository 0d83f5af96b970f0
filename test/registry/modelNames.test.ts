import { readdirSync, readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import * as Model from "../../src/Model.js"

const folder = new URL("../../registry/", import.meta.url)

/** The shipped catalogue: what its records say is the truth that names are checked against. */
const catalogue: ReadonlyArray<Model.ModelInfo> = readdirSync(folder)
  .filter((name) => name.endsWith(".json"))
  .flatMap((name) => JSON.parse(readFileSync(new URL(name, folder), "utf8")).models)

describe("Model", () => {
  describe("parseParameters", () => {
    it("M, K, fractions, experts and trillions are sizes like 7b is", () => {
      const sizes: ReadonlyArray<readonly [string | number, number]> = [
        ["7b", 7e9],
        ["7B", 7e9],
        ["3.2B", 3.2e9],
        ["0.5b", 0.5e9],
        ["134.52M", 134_520_000],
        ["137M", 137e6],
        ["500m", 500e6],
        ["293K", 293e3],
        ["1t", 1e12],
        ["8x7b", 56e9],
        ["128X17B", 2176e9],
        ["e4b", 4e9],
        [" 70b ", 70e9],
        ["1234", 1234],
        [1234, 1234],
        ["0", 0]
      ]
      for (const [size, count] of sizes) assert.strictEqual(Model.parseParameters(size), count, String(size))
    })

    it("other texts have no size", () => {
      for (const text of ["", "b", "seven", "7bb", "7 gb", "-7b", "x7b", "8x", "q4", "1e3", "7b-instruct"]) {
        assert.strictEqual(Model.parseParameters(text), undefined, text)
      }
      for (const number of [Number.NaN, Number.POSITIVE_INFINITY, -1]) {
        assert.strictEqual(Model.parseParameters(number), undefined)
      }
    })

    it("parses every formatted size exactly", () => {
      FastCheck.assert(
        FastCheck.property(
          FastCheck.integer({ min: 1, max: 999_999 }),
          FastCheck.constantFrom("k", "m", "b", "t", "K", "M", "B", "T"),
          (hundredths, unit) => {
            const power = { k: 3, m: 6, b: 9, t: 12 }[unit.toLowerCase()] ?? 0
            const size = `${(hundredths / 100).toFixed(2)}${unit}`
            assert.strictEqual(Model.parseParameters(size), Number(BigInt(hundredths) * 10n ** BigInt(power - 2)))
          }
        )
      )
    })

    it("parses every size of the catalogue", () => {
      assert.strictEqual(catalogue.length, 7312)
      for (const { parameter_size } of catalogue) {
        if (parameter_size !== undefined) assert.isDefined(Model.parseParameters(parameter_size), parameter_size)
      }
    })
  })

  describe("names", () => {
    it("generation: the version in a name, never a size", () => {
      const names: ReadonlyArray<readonly [string, number | undefined]> = [
        ["gemma3:4b", 3],
        ["gemma3n:e4b", 3],
        ["llama3.2:3b", 3],
        ["Llama3.1:70B", 3],
        ["qwen2.5:72b", 2],
        ["qwen2.5vl:7b", 2],
        ["deepseek-v3", 3],
        ["deepseek-v3.1:671b", 3],
        ["phi4", 4],
        ["phi4-mini", 4],
        ["mistral-small3.2:24b", 3],
        ["hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M", 3],
        ["codellama", undefined],
        ["codellama:7b", undefined],
        ["mixtral:8x7b", undefined],
        ["Mixtral-8x7B-GGUF", undefined],
        ["command-r7b", undefined],
        ["gemma:2b", undefined],
        ["gpt-oss:20b", undefined],
        ["model-q4_K_M", undefined]
      ]
      for (const [name, generation] of names) assert.strictEqual(Model.generation(name), generation, name)
    })

    it("family: by name, mapped to a server's names such as gemma3 or qwen2", () => {
      const families: ReadonlyArray<readonly [string, string]> = [
        ["mistral:7b", "mistral"],
        ["mixtral:8x7b", "mistral"],
        ["codestral", "mistral"],
        ["ministral-3", "mistral"],
        ["Llama3.2:3b", "llama"],
        ["gemma3", "gemma"],
        ["qwen2", "qwen"],
        ["qwq:32b", "qwen"],
        ["deepseek2", "deepseek"],
        ["gpt-oss:20b", "others"],
        ["starling-lm", "others"],
        ["../../etc/passwd", "others"]
      ]
      for (const [name, family] of families) assert.strictEqual(Model.familyOf(name), family, name)
    })

    it("family, size and quantization of a name agree with every record of the catalogue", () => {
      let sizes = 0
      let quantizations = 0
      for (const record of catalogue) {
        const name = record.model_name
        assert.strictEqual(Model.familyOf(name), record.family, name)
        const size = Model.sizeOfName(name)
        if (size !== undefined && record.parameter_size !== undefined) {
          sizes++
          assert.strictEqual(size, Model.parseParameters(record.parameter_size), name)
        }
        const quantization = Model.quantization(name)
        if (quantization !== undefined) {
          quantizations++
          assert.strictEqual(quantization, record.quantization_level, name)
        }
      }
      assert.isAbove(sizes, 6_000)
      assert.isAbove(quantizations, 6_000)
    })

    it("size: of the tag, else of the name; active experts and context lengths are none", () => {
      assert.strictEqual(Model.sizeOfName("qwen3:30b-a3b"), 30e9)
      assert.strictEqual(Model.sizeOfName("yarn-llama2:7b-128k"), 7e9)
      assert.strictEqual(Model.sizeOfName("hf.co/x/Llama-3.2-3B-GGUF:Q4_K_M"), 3e9)
      assert.strictEqual(Model.sizeOfName("phi3:mini-4k"), undefined)
      assert.strictEqual(Model.sizeOfName("llama3.2"), undefined)
    })

    it("canonical: case, :latest and the default registry are implied", () => {
      for (const name of [
        "Llama3.2",
        "llama3.2:latest",
        " registry.ollama.ai/library/llama3.2:LATEST",
        "library/llama3.2"
      ]) {
        assert.strictEqual(Model.canonical(name), "llama3.2", name)
      }
      assert.strictEqual(Model.canonical("hf.co/A/B:Q4"), "hf.co/a/b:q4")
    })
  })

  describe("nearest", () => {
    const names = catalogue.map((record) => record.model_name)

    it("suggests similar names, nearest first", () => {
      assert.strictEqual(Model.nearest("lama3.2:3b", names)[0], "llama3.2:3b")
      assert.strictEqual(Model.nearest("llama3.2:3", names)[0], "llama3.2:3b")
      assert.strictEqual(Model.nearest("phi-4", names)[0], "phi4:latest")
      assert.include(Model.nearest("gpt-oss", ["gpt-oss:20b", "gpt-oss:120b", "gemma3:4b"]), "gpt-oss:20b")
      assert.deepStrictEqual(Model.nearest("mistral:8b", ["mistral:7b", "qwen:7b", "zephyr"], 1), ["mistral:7b"])
    })

    it("suggests nothing if nothing is similar, and never the name itself", () => {
      assert.deepStrictEqual(Model.nearest("nonexistent:model", names), [])
      assert.deepStrictEqual(Model.nearest("", names), [])
      assert.notInclude(Model.nearest("llama3.2", names), "llama3.2:latest")
    })

    it("returns at most n distinct names, sorted by distance", () => {
      FastCheck.assert(
        FastCheck.property(
          FastCheck.stringMatching(/^[ab]{3,8}$/),
          FastCheck.array(FastCheck.stringMatching(/^[ab]{3,8}$/)),
          FastCheck.integer({ min: 1, max: 5 }),
          (name, others, n) => {
            const found = Model.nearest(name, others, n)
            const all = Model.nearest(name, others, 1000)
            assert.isAtMost(found.length, n)
            assert.strictEqual(new Set(all).size, all.length)
            assert.notInclude(all, name)
            assert.deepStrictEqual(found, all.slice(0, n))
          }
        )
      )
    })
  })
})
