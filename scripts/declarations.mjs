/**
 * Types of an entry in one file that needs no other package: what comes from an Effect schema is written out, with its
 * doc comments.
 */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { rollup } from "rollup"
import { dts } from "rollup-plugin-dts"
import ts from "typescript"

const external = /^(?!\.|\/)/
const isEffect = (/** @type {string} */ module) => /^@?effect(\/|$)/.test(module)

/** What stands for values of Effect that a program may hand in, where it has them. */
const valueName = "EffectValue"
const schemaName = "EffectSchema"
const durationName = "DurationInput"
const standIns = {
  [valueName]: `/** A value of the library \`effect\`, such as a \`Redacted\`. */
interface ${valueName} {
  readonly pipe: (...args: never) => unknown;
}
`,
  [durationName]: `/** A time: a number of milliseconds, a text such as \`"2 seconds"\`, or a \`Duration\` of the library \`effect\`. */
type ${durationName} =
  | number
  | bigint
  | readonly [seconds: number, nanos: number]
  | \`\${number} \${"nano" | "micro" | "milli" | "second" | "minute" | "hour" | "day" | "week"}\`
  | \`\${number} \${"nanos" | "micros" | "millis" | "seconds" | "minutes" | "hours" | "days" | "weeks"}\`
  | ${valueName};
`,
  [schemaName]: `/** A schema of the library \`effect\`. */
interface ${schemaName}<A, I = A, R = never> {
  readonly Type: A;
  readonly Encoded: I;
  readonly Context: R;
  readonly ast: object;
}
`
}

const head = `/// <reference lib="esnext.disposable" />\n`

/** @type {(file: string) => Promise<string>} */
const rolledUp = async (file) => {
  const bundle = await rollup({ input: file, plugins: [dts()], external: (id) => external.test(id) && id !== file })
  try {
    const { output } = await bundle.generate({ format: "es" })
    return output[0].code
  } finally {
    await bundle.close()
  }
}

/** @type {(text: string, path: string) => ts.Program} */
const programOf = (text, path) => {
  const options = {
    target: ts.ScriptTarget.ES2022,
    lib: ["lib.es2023.d.ts", "lib.esnext.disposable.d.ts", "lib.dom.d.ts"],
    module: ts.ModuleKind.NodeNext,
    strict: true,
    exactOptionalPropertyTypes: true,
    types: [],
    noEmit: true
  }
  const host = ts.createCompilerHost(options)
  const { fileExists, getSourceFile, readFile } = host
  host.fileExists = (name) => name === path || fileExists(name)
  host.readFile = (name) => (name === path ? text : readFile(name))
  host.getSourceFile = (name, version, ...rest) =>
    name === path ? ts.createSourceFile(name, text, version, true) : getSourceFile(name, version, ...rest)
  return ts.createProgram([path], options, host)
}

const isInternal = (/** @type {ts.Node} */ node) =>
  ts.getJSDocTags(node).some(({ tagName }) => tagName.text === "internal")

/** @type {(type: ts.Type) => boolean} */
const isDuration = (type) =>
  /node_modules\/effect\//.test(type.getSymbol()?.declarations?.[0]?.getSourceFile().fileName ?? "") &&
  type.getSymbol()?.name === "Duration"

/** @typedef {ts.Statement & { readonly name?: ts.Identifier }} Named */

class Printer {
  /** The file's own types by what they are, so that they are named where they are used. @type {Map<ts.Type, string>} */
  names = new Map()
  /** The one that is written out: a name would name itself. @type {ts.Type | undefined} */
  top

  /**
   * @param {ts.TypeChecker} checker
   * @param {ts.SourceFile} source
   * @param {(node: ts.Node) => string | undefined} written the text of a node without Effect, where there is one
   */
  constructor(checker, source, written) {
    this.checker = checker
    this.source = source
    this.written = written
    for (const statement of source.statements) {
      if (!ts.isTypeAliasDeclaration(statement) || statement.typeParameters !== undefined) continue
      const type = checker.getTypeAtLocation(statement.name)
      if (type.flags & (ts.TypeFlags.Object | ts.TypeFlags.Union) && !this.names.has(type)) {
        this.names.set(type, statement.name.text)
      }
    }
  }

  /** @type {(type: ts.Type, what: string) => string} */
  text(type, what) {
    const name = type === this.top ? undefined : this.names.get(type)
    if (name !== undefined) return name
    const { checker } = this
    // What an alias with parameters makes has no name of its own.
    const symbol = type.aliasTypeArguments === undefined ? (type.aliasSymbol ?? type.getSymbol()) : type.getSymbol()
    if (type.aliasSymbol?.name === durationName) return durationName
    const declaration = symbol?.declarations?.[0]
    const file = declaration?.getSourceFile().fileName ?? ""
    if (/node_modules\/@?effect\//.test(file) && /^(Redacted|Layer|Duration)$/.test(symbol?.name ?? ""))
      return valueName
    if (type.isUnion()) return this.union(type, what)
    if (type.isIntersection()) {
      const isMade = type.types.every((one) => one.aliasTypeArguments !== undefined)
      return isMade ? `{\n${this.members(type, what)}}` : type.types.map((one) => this.text(one, what)).join(" & ")
    }
    if (!(type.flags & ts.TypeFlags.Object)) return checker.typeToString(type)
    if (checker.isTupleType(type)) return this.tuple(/** @type {ts.TupleTypeReference} */ (type), what)
    if (checker.isArrayType(type)) {
      const item = this.text(checker.getTypeArguments(/** @type {ts.TypeReference} */ (type))[0] ?? type, what)
      return symbol?.name === "ReadonlyArray" ? `ReadonlyArray<${item}>` : `Array<${item}>`
    }
    const anonymous = symbol === undefined || /^__(type|object)$/.test(symbol.name)
    if (!anonymous && declaration?.getSourceFile() === this.source && type !== this.top) return symbol.name
    if (!anonymous && /typescript\/lib\/lib\./.test(file) && type.aliasSymbol === undefined) {
      return checker.typeToString(type, undefined, ts.TypeFormatFlags.NoTruncation)
    }
    if (type.getCallSignatures().length > 0 || type.getConstructSignatures().length > 0) {
      const text = checker.typeToString(type, this.source, ts.TypeFormatFlags.NoTruncation)
      if (/\b(Effect|Schema|Stream|Layer|Context)\b/.test(text))
        throw new Error(`${what} has a type of Effect: ${text}`)
      return text
    }
    if (!anonymous && file.includes("node_modules")) throw new Error(`${what} is a ${symbol.name} of ${file}`)
    return `{\n${this.members(type, what)}}`
  }

  /** @type {(type: ts.UnionType, what: string) => string} */
  union(type, what) {
    // `boolean` is a union of its own.
    let parts = type.types.filter(({ flags }) => !(flags & ts.TypeFlags.BooleanLiteral))
    const isTime = parts.some(isDuration)
    if (isTime) {
      const inside = ts.TypeFlags.BigIntLike | ts.TypeFlags.Number | ts.TypeFlags.TemplateLiteral
      parts = parts.filter((one) => !(isDuration(one) || one.flags & inside || this.checker.isTupleType(one)))
    }
    const texts = parts.map((one) => {
      const text = this.text(one, what)
      return one.getCallSignatures().length > 0 ? `(${text})` : text
    })
    const booleans = type.types.filter(({ flags }) => flags & ts.TypeFlags.BooleanLiteral)
    if (booleans.length === 2) texts.push("boolean")
    else texts.push(...booleans.map((one) => this.checker.typeToString(one)))
    return [
      ...new Set([...(isTime ? [durationName] : []), ...texts.filter((text) => text !== "undefined")]),
      ...(texts.includes("undefined") ? ["undefined"] : [])
    ].join(" | ")
  }

  /** @type {(type: ts.TupleTypeReference, what: string) => string} */
  tuple(type, what) {
    const { elementFlags, readonly } = type.target
    const items = this.checker.getTypeArguments(type).map((item, index) => {
      const flags = elementFlags[index] ?? 0
      const text = this.text(item, what)
      return flags & ts.ElementFlags.Rest ? `...Array<${text}>` : flags & ts.ElementFlags.Optional ? `${text}?` : text
    })
    return `${readonly ? "readonly " : ""}[${items.join(", ")}]`
  }

  /** @type {(type: ts.Type, what: string) => string} */
  members(type, what) {
    const lines = this.checker.getIndexInfosOfType(type).map(({ isReadonly, keyType, type }) => {
      return `${isReadonly ? "readonly " : ""}[key: ${this.text(keyType, what)}]: ${this.text(type, what)};\n`
    })
    for (const property of this.properties(type)) {
      lines.push(this.member(property, `${what}.${property.name}`))
    }
    return lines.join("")
  }

  /** In the order in which they stand in the sources. @type {(type: ts.Type) => ReadonlyArray<ts.Symbol>} */
  properties(type) {
    const place = (/** @type {ts.Symbol} */ { declarations }) => declarations?.[0]?.pos ?? 0
    return [...this.checker.getPropertiesOfType(type)].sort((a, b) => place(a) - place(b))
  }

  /** @type {(property: ts.Symbol, what: string) => string} */
  member(property, what) {
    const { checker } = this
    const [declaration] = property.declarations ?? []
    if (
      declaration?.getSourceFile() === this.source &&
      ts.isPropertySignature(declaration) &&
      // A type made of another one has its members' declarations, not their types.
      checker.getTypeAtLocation(declaration) === checker.getTypeOfSymbol(property) &&
      (declaration.questionToken !== undefined) === ((property.flags & ts.SymbolFlags.Optional) !== 0) &&
      (!ts.isInterfaceDeclaration(declaration.parent) || declaration.parent.typeParameters === undefined)
    ) {
      const text = this.written(declaration)
      if (text !== undefined) return text
    }
    const comment = ts.displayPartsToString(property.getDocumentationComment(checker)).trim()
    const type = checker.getTypeOfSymbol(property)
    const optional = (property.flags & ts.SymbolFlags.Optional) !== 0
    // An optional member may be absent; that it may be `undefined` is another thing.
    const given =
      optional && type.isUnion()
        ? type.types.filter((one) => !(one.flags & ts.TypeFlags.Undefined) || one === checker.getUndefinedType())
        : undefined
    const text =
      given === undefined || given.length === /** @type {ts.UnionType} */ (type).types.length
        ? this.text(type, what)
        : this.union(/** @type {ts.UnionType} */ ({ types: given }), what)
    const name = /^[A-Za-z_$][\w$]*$/.test(property.name) ? property.name : JSON.stringify(property.name)
    const doc = comment === "" ? "" : `/** ${comment.replaceAll("\n", "\n * ")} */\n`
    return `${doc}readonly ${name}${optional ? "?" : ""}: ${text};\n`
  }
}

/** The comment in front of a statement, as it stands. @type {(statement: ts.Node) => string} */
const commentOf = (statement) =>
  statement
    .getFullText()
    .slice(0, statement.getStart() - statement.getFullStart())
    .trim() + "\n"

/**
 * The types of the entry at `file` (an absolute path below dist/, as tsc wrote it), in one text that imports nothing.
 *
 * @type {(file: string) => Promise<string>}
 */
const declarationsOf = async (file) => {
  const path = join(file, "..", ".entry.d.ts")
  const program = programOf(await rolledUp(file), path)
  const checker = program.getTypeChecker()
  const source = program.getSourceFile(path)
  if (source === undefined) throw new Error(`${path} was not read`)

  /** @type {Map<string, Array<Named>>} */
  const declared = new Map()
  /** The names that come from Effect, and what they are. @type {Map<string, string>} */
  const imported = new Map()
  /** Imports of packages that ours depends on. @type {Map<string, ts.ImportDeclaration>} */
  const others = new Map()
  /** @type {Array<ts.ExportDeclaration>} */
  const exports = []
  for (const statement of source.statements) {
    if (ts.isImportDeclaration(statement)) {
      const module = /** @type {ts.StringLiteral} */ (statement.moduleSpecifier).text
      const bindings = statement.importClause?.namedBindings
      const names =
        bindings === undefined
          ? [statement.importClause?.name]
          : ts.isNamespaceImport(bindings)
            ? [bindings.name]
            : bindings.elements.map(({ name }) => name)
      for (const name of names) {
        if (name === undefined) continue
        if (isEffect(module)) imported.set(name.text, module.slice(module.lastIndexOf("/") + 1))
        else others.set(name.text, statement)
      }
    } else if (ts.isExportDeclaration(statement)) {
      exports.push(statement)
    } else {
      const names = ts.isVariableStatement(statement)
        ? statement.declarationList.declarations.map(({ name }) => name.getText())
        : [/** @type {Named} */ (statement).name?.text ?? ""]
      for (const name of names) declared.set(name, [...(declared.get(name) ?? []), /** @type {Named} */ (statement)])
    }
  }

  /** Names in a text of types; members and labels may be among them, which does no harm. @type {(text: string) => Set<string>} */
  const namesIn = (text) => {
    const names = new Set()
    const parsed = ts.createSourceFile("part.d.ts", text, ts.ScriptTarget.ES2022, false)
    const visit = (/** @type {ts.Node} */ node) => {
      if (ts.isIdentifier(node)) names.add(node.text)
      ts.forEachChild(node, visit)
    }
    visit(parsed)
    return names
  }
  /**
   * What a node refers to: `values` in `typeof` and behind `extends`.
   *
   * @type {(node: ts.Node) => { readonly all: Set<string>, readonly values: Set<string> }}
   */
  const referencesOf = (node) => {
    const all = new Set()
    const values = new Set()
    const visit = (/** @type {ts.Node} */ one) => {
      if (ts.isClassElement(one) && isInternal(one)) return
      if (ts.isIdentifier(one)) {
        const { parent } = one
        const isName = "name" in parent && parent.name === one
        if (!isName && !(ts.isQualifiedName(parent) && parent.right === one)) all.add(one.text)
        if (ts.isTypeQueryNode(parent) || ts.isExpressionWithTypeArguments(parent)) values.add(one.text)
        if (ts.isQualifiedName(parent) && ts.isTypeQueryNode(parent.parent)) values.add(one.text)
      }
      ts.forEachChild(one, visit)
    }
    visit(node)
    return { all, values }
  }

  /** Whether the type of a node can only be said with Effect's: it names one, or a value that has one. @type {(node: ts.Node) => boolean} */
  const needsEffect = (node) => {
    const { all, values } = referencesOf(node)
    return [...all].some((name) => imported.has(name)) || [...values].some(hasTypeOfEffect)
  }
  /** @type {Map<string, boolean>} */
  const known = new Map()
  /** @type {(name: string) => boolean} */
  const hasTypeOfEffect = (name) => {
    if (imported.has(name)) return true
    const before = known.get(name)
    if (before !== undefined) return before
    known.set(name, false)
    const found = (declared.get(name) ?? []).some((one) => ts.isVariableStatement(one) && needsEffect(one))
    known.set(name, found)
    return found
  }

  /** @type {(node: ts.Node) => string | undefined} */
  const written = (node) => {
    const text = `${standIn(node.getFullText().trim())}\n`
    const parsed = ts.createSourceFile(
      "part.d.ts",
      ts.isStatement(node) ? text : `interface Of {${text}}`,
      ts.ScriptTarget.ES2022,
      true
    )
    return needsEffect(parsed) ? undefined : text
  }

  const printer = new Printer(checker, source, written)

  /**
   * `extends Omit<…>` of something that cannot be said without Effect: what is left out is why.
   *
   * @type {(statement: ts.Node) => boolean}
   */
  const leavesOut = (statement) =>
    ts.isInterfaceDeclaration(statement) &&
    (statement.heritageClauses ?? []).some(({ types }) =>
      types.some(
        ({ expression, typeArguments }) =>
          expression.getText() === "Omit" && !canBeSaid(typeArguments?.[0]?.getText() ?? "", new Set())
      )
    )

  /** @type {(name: string, visited: Set<string>) => boolean} */
  const canBeSaid = (name, visited) => {
    if (visited.has(name)) return true
    visited.add(name)
    return (declared.get(name) ?? []).every((statement) => {
      if (ts.isVariableStatement(statement)) return true
      try {
        return [...namesIn(textOf(statement))].every((other) => canBeSaid(other, visited))
      } catch {
        return false
      }
    })
  }

  /** @type {(statement: ts.ClassDeclaration) => string} */
  const classText = (statement) => {
    const name = statement.name?.text ?? ""
    const base = statement.heritageClauses?.[0]?.types[0]
    const resolved = base !== undefined && needsEffect(base)
    const own = statement.members.flatMap((member) => {
      if (ts.isConstructorDeclaration(member) && isInternal(member)) return ["protected constructor();\n"]
      if (isInternal(member)) return []
      return [`${commentOf(member)}${member.getText()}\n`]
    })
    if (!resolved) {
      const extended = statement.heritageClauses?.map((clause) => ` ${clause.getText()}`).join("") ?? ""
      const parameters = statement.typeParameters?.map((one) => one.getText()).join(", ")
      const generic = parameters === undefined ? "" : `<${parameters}>`
      return `${commentOf(statement)}declare class ${name}${generic}${extended} {\n${own.join("")}}\n`
    }
    const type = /** @type {ts.InterfaceType} */ (checker.getTypeAtLocation(statement))
    const made = checker.getTypeOfSymbolAtLocation(checker.getSymbolAtLocation(base.expression) ?? type.symbol, base)
    const given = made.getConstructSignatures()[0]?.parameters[0]
    if (given === undefined) throw new Error(`${name} extends something else than a class of a schema`)
    const fields = checker.getNonNullableType(checker.getTypeOfSymbolAtLocation(given, base))
    const instance = printer.members(fields, name)
    const constructor = instance === "" ? "constructor();\n" : `constructor(fields: {\n${instance}});\n`
    const tag = `/** Which error this is. */\nreadonly _tag: "${name}";\n`
    return `${commentOf(statement)}declare class ${name} extends Error {\n${constructor}${tag}${instance}${own.join("")}}\n`
  }

  /** A text in which types of Effect have their stand-ins. @type {(text: string) => string} */
  const standIn = (text) => {
    for (const [name, module] of imported) {
      const written = name.replaceAll("$", "\\$")
      if (module === "Schema")
        text = text.replace(new RegExp(`\\b${written}\\.Schema(\\.Variance)?<`, "g"), `${schemaName}<`)
      if (module === "Duration") {
        text = text.replace(new RegExp(`\\b(${written}\\.)?${durationName}\\b`, "g"), durationName)
      }
      if (module !== "Redacted" && module !== "Layer") continue
      text = text.replace(new RegExp(`(?<!\`)\\b(${written}\\.)?${module}(<[\\w, ]*>)?(?![\\w.])`, "g"), valueName)
    }
    return text
  }

  /** @type {(statement: Named) => string} */
  const textOf = (statement) => {
    if (ts.isClassDeclaration(statement)) return classText(statement)
    const text = leavesOut(statement) ? undefined : written(statement)
    if (text !== undefined) return text
    const name = statement.name?.text ?? ""
    if (ts.isTypeAliasDeclaration(statement) && statement.typeParameters === undefined) {
      const type = checker.getTypeAtLocation(statement.name)
      printer.top = printer.names.get(type) === name ? type : undefined
      return `${commentOf(statement)}type ${name} = ${printer.text(type, name)};\n`
    }
    if (ts.isInterfaceDeclaration(statement) && statement.typeParameters === undefined) {
      const type = checker.getTypeAtLocation(statement.name)
      printer.top = type
      return `${commentOf(statement)}interface ${name} {\n${printer.members(type, name)}}\n`
    }
    throw new Error(
      `the types of ${name} need Effect, and are neither an interface, an alias nor an error: ${statement.getText().slice(0, 300)}`
    )
  }

  // What is exported, and what that names.
  /** @type {Map<Named, string>} */
  const kept = new Map()
  const open = exports.flatMap(({ exportClause }) =>
    exportClause && ts.isNamedExports(exportClause)
      ? exportClause.elements.map(({ name, propertyName }) => (propertyName ?? name).text)
      : []
  )
  const seen = new Set(open)
  for (let name = open.pop(); name !== undefined; name = open.pop()) {
    for (const statement of declared.get(name) ?? []) {
      if (kept.has(statement)) continue
      // A value whose type goes with it is left out where only the type can be said.
      if (ts.isVariableStatement(statement) && (declared.get(name)?.length ?? 0) > 1 && needsEffect(statement)) continue
      const text = textOf(statement)
      kept.set(statement, text)
      for (const other of namesIn(text)) {
        if (other === "") throw new Error(`the text of ${name} cannot be read:\n${text}`)
        if (seen.has(other)) continue
        seen.add(other)
        if (declared.has(other)) open.push(other)
      }
    }
  }
  const body = source.statements.flatMap((statement) => kept.get(/** @type {Named} */ (statement)) ?? [])
  const used = new Set([...others].flatMap(([name, statement]) => (seen.has(name) ? [statement] : [])))
  const stoodIn = Object.entries(standIns).filter(([name]) => seen.has(name) || seen.has(durationName))
  const text = [
    ...[...used].map((statement) => `${statement.getText()}\n`),
    ...stoodIn.map(([, text]) => text),
    ...body,
    ...exports.map((statement) => `${statement.getText()}\n`),
    // Declarations of programs name them where they show an option.
    `export type { ${stoodIn.map(([name]) => name).join(", ")} };\n`
  ].join("\n")
  for (const name of imported.keys()) {
    if (new RegExp(`\\b${name.replaceAll("$", "\\$")}\\.`).test(text.replace(/\/\*\*.*?\*\//gs, ""))) {
      throw new Error(`the types of ${file} still name ${name}`)
    }
  }
  return head + formatted(text)
}

/** @type {(text: string) => string} */
const formatted = (text) =>
  ts
    .createPrinter({ removeComments: false })
    .printFile(ts.createSourceFile("entry.d.ts", text, ts.ScriptTarget.ES2022, true))

/**
 * Writes the types of an entry, which tsc has written to `from`.
 *
 * @type {(from: string, to: string) => Promise<void>}
 */
export const writeDeclarations = async (from, to) => writeFileSync(to, await declarationsOf(from))
