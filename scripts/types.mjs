/**
 * TypeScript's diagnostics and those of the Effect language service, of every file of the project, from one program. Run
 * by `npm run types`. A warning fails as an error does.
 */
import { createRequire } from "node:module"
import { fileURLToPath } from "node:url"
import ts from "typescript"

const root = fileURLToPath(new URL("..", import.meta.url))
/** A plugin for editors: it has no types, and is no module that could be imported. */
const effectPlugin = createRequire(import.meta.url)("@effect/language-service/index.js")

/** @type {(diagnostics: ReadonlyArray<ts.Diagnostic>) => void} */
const print = (diagnostics) =>
  console.error(
    ts.formatDiagnostics(diagnostics, {
      getCanonicalFileName: (file) => file,
      getCurrentDirectory: () => root,
      getNewLine: () => "\n"
    })
  )

const config = ts.getParsedCommandLineOfConfigFile(`${root}tsconfig.json`, {}, /** @type {any} */ (ts.sys))
if (config === undefined) throw new Error("tsconfig.json cannot be read")
const { errors, fileNames, options } = config

const project = ts.createLanguageService(
  {
    getCompilationSettings: () => options,
    getScriptFileNames: () => fileNames,
    getScriptVersion: () => "1",
    getScriptSnapshot: (file) => {
      const text = ts.sys.readFile(file)
      return text === undefined ? undefined : ts.ScriptSnapshot.fromString(text)
    },
    getCurrentDirectory: () => root,
    getDefaultLibFileName: ts.getDefaultLibFilePath,
    fileExists: ts.sys.fileExists,
    readFile: ts.sys.readFile,
    readDirectory: ts.sys.readDirectory,
    directoryExists: ts.sys.directoryExists,
    getDirectories: ts.sys.getDirectories,
    ...(ts.sys.realpath === undefined ? {} : { realpath: ts.sys.realpath })
  },
  ts.createDocumentRegistry()
)
const program = project.getProgram()
if (program === undefined) throw new Error("there is no program")

const settings = /** @type {ReadonlyArray<{ name: string }>} */ (options["plugins"] ?? [])
const effect = effectPlugin({ typescript: ts }).create(
  /** @type {any} */ ({
    languageService: project,
    languageServiceHost: {},
    serverHost: ts.sys,
    config: settings.find(({ name }) => name === "@effect/language-service") ?? {},
    project: { log: () => {} }
  })
)

const found = [...errors, ...program.getOptionsDiagnostics(), ...program.getGlobalDiagnostics()]
for (const file of fileNames) {
  found.push(...project.getSyntacticDiagnostics(file), ...effect.getSemanticDiagnostics(file))
}
const faults = found.filter(
  ({ category }) => category === ts.DiagnosticCategory.Error || category === ts.DiagnosticCategory.Warning
)
if (faults.length > 0) {
  print(faults)
  process.exitCode = 1
}
