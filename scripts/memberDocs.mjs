/**
 * Every member of what the package exports has a doc comment: editors show it where the member is used. `@since` is on
 * what programs can import, and on nothing else. Run by `npm run lint`.
 */
import { readdirSync, readFileSync } from "node:fs"
import { relative } from "node:path"
import { fileURLToPath } from "node:url"
import ts from "typescript"

const root = fileURLToPath(new URL("..", import.meta.url))

/** The modules that a program can import, as files under src/: those that package.json exports, and what they re-export. */
const entries = readdirSync(`${root}src`)
  .filter((name) => name.endsWith(".ts"))
  .map((name) => `src/${name}`)

const config = ts.getParsedCommandLineOfConfigFile(`${root}tsconfig.build.json`, {}, /** @type {any} */ (ts.sys))
if (config === undefined) throw new Error("tsconfig.build.json cannot be read")
const program = ts.createProgram(
  entries.map((entry) => root + entry),
  config.options
)
const checker = program.getTypeChecker()

/** @type {Map<string, string>} by place, so that what is exported twice is told once */
const problems = new Map()

const isOwn = (/** @type {ts.Node} */ node) => node.getSourceFile().fileName.startsWith(`${root}src/`)

/** A class has the comments of the interface that it implements. */
const hasComment = (/** @type {ts.Node & { name?: ts.Node }} */ node) =>
  (node.name &&
    checker
      .getSymbolAtLocation(node.name)
      ?.getDocumentationComment(checker)
      .some(({ text }) => text.trim())) ||
  ts.getJSDocCommentsAndTags(node).some((doc) => ts.isJSDoc(doc) && ts.getTextOfJSDocComment(doc.comment)?.trim())

const requireComment = (/** @type {ts.Node} */ node, /** @type {string} */ name) => {
  if (hasComment(node)) return
  const file = node.getSourceFile()
  const { line } = file.getLineAndCharacterOfPosition(node.getStart())
  const place = `${relative(root, file.fileName)}:${line + 1}`
  problems.set(`${place} ${name}`, `${place}: ${name} has no doc comment`)
}

const nameOf = (/** @type {ts.Node & { name?: ts.Node }} */ node) => node.name?.getText() ?? "?"

/** What has another declaration of its own, or needs no words. */
const isExempt = (/** @type {ts.Node} */ member) => {
  const flags = ts.getCombinedModifierFlags(/** @type {ts.Declaration} */ (member))
  if (flags & (ts.ModifierFlags.Private | ts.ModifierFlags.Protected | ts.ModifierFlags.Override)) return true
  const name = nameOf(member)
  if (ts.getJSDocTags(member).some(({ tagName }) => tagName.text === "internal")) return true
  return name === "_tag" || name.startsWith("#") || name.startsWith("[")
}

/** @type {(fields: ts.ObjectLiteralExpression, of: string) => void} */
const checkFields = (fields, of) => {
  for (const field of fields.properties) {
    if (!ts.isSpreadAssignment(field) && !isExempt(field)) requireComment(field, `${of}.${nameOf(field)}`)
  }
}

/** @type {Set<ts.Type>} */
const shown = new Set()

/**
 * Whether editors show a comment for each property of a type, those that it inherits too. In the types of properties, it
 * looks for comments that are lost: `Schema.Schema.Encoded` loses those of a schema's fields.
 *
 * @type {(type: ts.Type, of: string, at: ts.Node, isInner?: boolean) => void}
 */
const checkShown = (type, of, at, isInner = false) => {
  if (shown.has(type)) return
  shown.add(type)
  if (type.isUnion()) {
    for (const part of type.types) checkShown(part, of, at, isInner)
    return
  }
  if (!(type.flags & (ts.TypeFlags.Object | ts.TypeFlags.Intersection))) return
  if (checker.isArrayType(type) || checker.isTupleType(type)) {
    for (const item of checker.getTypeArguments(/** @type {ts.TypeReference} */ (type))) checkShown(item, of, at, true)
    return
  }
  for (const property of checker.getPropertiesOfType(type)) {
    const [declaration] = property.declarations ?? []
    if (declaration !== undefined && (!isOwn(declaration) || isExempt(declaration))) continue
    const name = `${of}.${property.name}`
    checkShown(checker.getTypeOfSymbol(property), name, at, true)
    if (property.getDocumentationComment(checker).some(({ text }) => text.trim())) continue
    if (declaration !== undefined && !hasComment(declaration)) {
      if (!isInner || ts.isPropertyAssignment(declaration)) requireComment(declaration, name)
      continue
    }
    const place = `${relative(root, at.getSourceFile().fileName)}: ${name}`
    problems.set(place, `${place} shows no comment in editors: say its type with InputOf (internal/optionSchemas)`)
  }
}

/**
 * The members in a type, or the fields of a schema: not those of functions and of other types that it names.
 *
 * @type {(node: ts.Node, of: string) => void}
 */
const checkMembers = (node, of) => {
  if (ts.isInterfaceDeclaration(node) || ts.isTypeLiteralNode(node)) {
    for (const member of node.members) {
      if ((ts.isPropertySignature(member) || ts.isMethodSignature(member)) && !isExempt(member))
        requireComment(member, `${of}.${nameOf(member)}`)
    }
  } else if (ts.isTypeAliasDeclaration(node)) checkMembers(node.type, of)
  else if (ts.isUnionTypeNode(node) || ts.isIntersectionTypeNode(node)) {
    for (const type of node.types) checkMembers(type, of)
  } else if (ts.isParenthesizedTypeNode(node)) checkMembers(node.type, of)
  else if (ts.isClassDeclaration(node)) {
    for (const { types } of node.heritageClauses ?? []) for (const { expression } of types) checkMembers(expression, of)
    for (const member of node.members) {
      if (ts.isConstructorDeclaration(member) || ts.isClassStaticBlockDeclaration(member) || isExempt(member)) continue
      requireComment(member, `${of}.${nameOf(member)}`)
    }
  } else if (ts.isVariableDeclaration(node) && node.initializer !== undefined) checkMembers(node.initializer, of)
  else if (ts.isCallExpression(node)) {
    // Schema.Struct({…}), possibly piped; TaggedError<Self>()("Tag", {…})
    const callee = node.expression.getText()
    if (!/^(Schema\.|TaggedError\b)/.test(callee)) return
    checkMembers(node.expression, of)
    for (const argument of node.arguments) {
      if (!ts.isObjectLiteralExpression(argument)) checkMembers(argument, of)
      else if (/^(Schema\.(Struct|Tagged|Class)|TaggedError\b)/.test(callee)) checkFields(argument, of)
    }
  } else if (ts.isPropertyAccessExpression(node)) checkMembers(node.expression, of)
}

/** @type {Set<ts.Symbol>} */
const seen = new Set()

/** Files that programs can import, each with the places of the comments of what they can import from it. */
/** @type {Map<string, Set<number>>} */
const importable = new Map()

/** @type {(node: ts.Node | undefined) => ReadonlyArray<ts.JSDoc>} */
const commentsOf = (node) => (node === undefined ? [] : ts.getJSDocCommentsAndTags(node).filter(ts.isJSDoc))

/** @type {(declarations: ReadonlyArray<ts.Node>, exported: ts.Node | undefined, name: string) => void} */
const checkSince = (declarations, exported, name) => {
  const comments = declarations.flatMap(commentsOf)
  for (const comment of comments) {
    const { fileName } = comment.getSourceFile()
    importable.set(fileName, (importable.get(fileName) ?? new Set()).add(comment.pos))
  }
  const [first] = declarations
  if (first === undefined || [...comments, ...commentsOf(exported)].some((one) => one.getText().includes("@since")))
    return
  problems.set(`since ${name}`, `${relative(root, first.getSourceFile().fileName)}: ${name} has no @since`)
}

/** @type {(module: ts.Symbol, path: string) => void} */
const checkModule = (module, path) => {
  for (const exported of checker.getExportsOfModule(module)) {
    const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported
    if (seen.has(symbol)) continue
    seen.add(symbol)
    const name = path + exported.name
    const declarations = (symbol.declarations ?? []).filter(isOwn)
    if (symbol.flags & ts.SymbolFlags.ValueModule) {
      for (const file of declarations) {
        const { fileName } = file.getSourceFile()
        importable.set(fileName, (importable.get(fileName) ?? new Set()).add(0))
      }
      checkModule(symbol, `${name}.`)
    } else {
      checkSince(declarations, exported.declarations?.[0], name)
      for (const declaration of declarations) checkMembers(declaration, name)
      if (
        declarations[0] &&
        symbol.flags & (ts.SymbolFlags.Interface | ts.SymbolFlags.TypeAlias | ts.SymbolFlags.Class)
      )
        checkShown(checker.getDeclaredTypeOfSymbol(symbol), name, declarations[0])
      const commented = declarations.some((one) => hasComment(one))
      if (!commented && declarations[0]) requireComment(declarations[0], name)
    }
  }
}

for (const entry of entries) {
  const file = program.getSourceFile(root + entry)
  const module = file && checker.getSymbolAtLocation(file)
  if (module === undefined) throw new Error(`${entry} is no module`)
  checkModule(module, "")
}

for (const name of readdirSync(`${root}src`, { recursive: true, encoding: "utf8" })) {
  if (!name.endsWith(".ts") || !/[/\\]/.test(name)) continue
  const text = readFileSync(`${root}src/${name}`, "utf8")
  for (const { 0: comment, index } of text.matchAll(/\/\*\*(?:(?!\*\/).)*\*\//gs)) {
    if (!/@since|@category/.test(comment) || importable.get(`${root}src/${name}`)?.has(index)) continue
    const place = `src/${name}:${text.slice(0, index).split("\n").length}`
    problems.set(place, `${place}: @since and @category are for what programs can import`)
  }
}

for (const problem of [...problems.values()].sort()) console.error(problem)
process.exitCode = problems.size === 0 ? 0 : 1
