/** What the compiler says of the files that a configuration names: `node typeCheck.mjs TSCONFIG`. */
import ts from "typescript"

const [path = ""] = process.argv.slice(2)
const config = ts.getParsedCommandLineOfConfigFile(path, {}, /** @type {any} */ (ts.sys))
if (config === undefined) throw new Error(`${path} cannot be read`)
const { errors, fileNames, options } = config
const program = ts.createProgram(fileNames, options)
const found = [...errors, ...program.getOptionsDiagnostics(), ...program.getGlobalDiagnostics()]
for (const name of fileNames) {
  const file = program.getSourceFile(name)
  found.push(...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file))
}
if (found.length > 0) {
  console.log(
    ts.formatDiagnostics(found, {
      getCanonicalFileName: (file) => file,
      getCurrentDirectory: () => process.cwd(),
      getNewLine: () => "\n"
    })
  )
  process.exitCode = 1
}
