/**
 * The examples in doc comments (`@example`, and blocks of TypeScript) are whole programs that compile. Run by
 * `test/docs/docComments.test.ts`.
 *
 *   node scripts/docExamples.mjs           those of src/
 *   node scripts/docExamples.mjs FILE …    those of these files
 */
import { readdirSync, readFileSync } from "node:fs"
import { join, relative } from "node:path"
import { argv } from "node:process"
import { fileURLToPath } from "node:url"
import ts from "typescript"

const root = fileURLToPath(new URL("..", import.meta.url))

/** @typedef {{ readonly file: string, readonly line: number, readonly code: string }} Example `line` is that of its start */

/** The text of a doc comment, one line of it for each of the source's. */
const textOf = (/** @type {string} */ comment) =>
  comment
    .slice(3, -2)
    .split("\n")
    .map((line) => line.replace(/^\s*\* ?/, ""))
    .join("\n")

/**
 * The examples of a source file.
 *
 * @type {(file: string, source: string) => ReadonlyArray<Example>}
 */
export const examplesOf = (file, source) =>
  [...source.matchAll(/\/\*\*[\s\S]*?\*\//g)].flatMap((comment) => {
    const before = source.slice(0, comment.index).split("\n").length
    const text = textOf(comment[0])
    const at = (/** @type {number} */ index, /** @type {string} */ code) => ({
      file,
      line: before + text.slice(0, index).split("\n").length - 1,
      code
    })
    const fenced = [...text.matchAll(/^```(?:ts|typescript)\n([\s\S]*?)^```$/gm)].map((block) =>
      at(block.index + block[0].indexOf("\n") + 1, block[1] ?? "")
    )
    const bare = [...text.matchAll(/^@example[^\n]*\n((?:(?!@)[^\n]*\n?)*)/gm)].flatMap((tag) => {
      const code = tag[1] ?? ""
      return /^```/m.test(code) ? [] : [at(tag.index + tag[0].indexOf("\n") + 1, code)]
    })
    return [...fenced, ...bare]
  })

/** The compiler's options of the project; nothing is written. */
const optionsOf = () => {
  const { config } = ts.readConfigFile(join(root, "tsconfig.json"), ts.sys.readFile)
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root)
  const { incremental: _incremental, tsBuildInfoFile: _file, ...others } = options
  const paths = { ...options.paths, "aicortex/*": ["./src/*.ts"] }
  // Some examples are of web pages.
  const lib = [...(options.lib ?? []), "lib.dom.d.ts", "lib.dom.iterable.d.ts"]
  return { ...others, lib, noUnusedLocals: false, noUnusedParameters: false, paths }
}

/**
 * What the compiler says of examples, each a module of its own.
 *
 * @type {(examples: ReadonlyArray<Example>) => ReadonlyArray<string>}
 */
const compile = (examples) => {
  const options = optionsOf()
  const modules = new Map(examples.map((example, i) => [join(root, "examples", `.doc-comment-${i}.ts`), example]))
  const host = ts.createCompilerHost(options)
  const { fileExists, getSourceFile, readFile } = host
  host.fileExists = (name) => modules.has(name) || fileExists(name)
  host.readFile = (name) => modules.get(name)?.code ?? readFile(name)
  host.getSourceFile = (name, version, ...rest) => {
    const example = modules.get(name)
    return example === undefined
      ? getSourceFile(name, version, ...rest)
      : ts.createSourceFile(name, example.code, version, true)
  }
  const program = ts.createProgram([...modules.keys()], options, host)
  return [...modules].flatMap(([name, { file, line }]) => {
    const source = program.getSourceFile(name)
    return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)].map(
      ({ messageText, start = 0 }) => {
        const at = source?.getLineAndCharacterOfPosition(start).line ?? 0
        return `${file}:${line + at}: ${ts.flattenDiagnosticMessageText(messageText, "\n")}`
      }
    )
  })
}

/** Prints what is wrong with the examples of these files; whether nothing is. */
export const check = (/** @type {ReadonlyArray<string>} */ files) => {
  const examples = files.flatMap((file) => examplesOf(relative(root, file), readFileSync(file, "utf8")))
  const alone = examples.filter(({ code }) => !/ from "aicortex(?:\/\w+)?"/.test(code))
  const problems = [
    ...alone.map(({ file, line }) => `${file}:${line}: imports nothing from aicortex: an example is a whole program`),
    ...compile(examples)
  ]
  for (const problem of problems) console.error(problem)
  return problems.length === 0
}

/** The modules of the library. */
export const sources = () =>
  readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .sort()
    .map((name) => join(root, "src", name))

if (argv[1] === fileURLToPath(import.meta.url)) {
  const named = argv.slice(2)
  process.exitCode = check(named.length === 0 ? sources() : named) ? 0 : 1
}
