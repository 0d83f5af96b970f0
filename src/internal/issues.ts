/**
 * What is wrong with settings, in words: from what a schema found, without the value that stands there, which may be a key.
 */
import type * as ParseResult from "effect/ParseResult"
import * as AST from "effect/SchemaAST"
import { nearest } from "../Model.js"

/**
 * A fault: `expected` is what another kind of value stands in the place of.
 *
 * @internal
 */
export interface Leaf {
  readonly path: ReadonlyArray<PropertyKey>
  readonly reason: string
  readonly expected?: AST.AST | undefined
  readonly actual?: unknown
  /** Whether `reason` says what the value must be, so that it can stand beside others. */
  readonly kind?: string | undefined
}

/** What a value must be. */
const kindOf = (ast: AST.AST): string => {
  if (AST.isRefinement(ast)) return kindOf(ast.from)
  if (AST.isTransformation(ast)) return kindOf(ast.from)
  if (AST.isUnion(ast)) return [...new Set(ast.types.map(kindOf))].filter((kind) => kind !== "undefined").join(" or ")
  if (AST.isLiteral(ast)) return typeof ast.literal === "string" ? `"${ast.literal}"` : String(ast.literal)
  if (AST.isStringKeyword(ast)) return "a text"
  if (AST.isNumberKeyword(ast)) return "a number"
  if (AST.isBooleanKeyword(ast)) return "true or false"
  if (AST.isTupleType(ast)) return "a list"
  if (AST.isTypeLiteral(ast) || AST.isObjectKeyword(ast)) return "an object"
  if (AST.isUndefinedKeyword(ast)) return "undefined"
  return "another value"
}

const plainName = (name: string): string => name.replace(/[_-]/g, "").toLowerCase()

/** The name that was likely meant by one that is not known. */
export const nearestName = (name: string, known: ReadonlyArray<string>): string | undefined =>
  known.find((one) => plainName(one) === plainName(name)) ?? nearest(name, known, 1)[0]

const unexpected = (name: PropertyKey, within: AST.AST | undefined): string => {
  const known =
    within !== undefined && AST.isTypeLiteral(within) ? within.propertySignatures.map((one) => String(one.name)) : []
  const near = nearestName(String(name), known)
  return `is not known${near === undefined ? `; there are ${known.join(", ")}` : `; did you mean '${near}'?`}`
}

const own = (ast: AST.AST): string | undefined => {
  const message = ast.annotations[AST.MessageAnnotationId] as AST.MessageAnnotation | undefined
  if (message === undefined) return undefined
  const text = message(undefined as never)
  return typeof text === "string" ? text : undefined
}

const words = (ast: AST.AST): string => {
  const description = ast.annotations[AST.DescriptionAnnotationId]
  return typeof description === "string" ? description : kindOf(ast)
}

const wrongKind = (ast: AST.AST): { readonly reason: string; readonly kind: string } => {
  const kind = kindOf(ast)
  return { kind, reason: `must be ${kind}` }
}

const isMany = (
  issues: ParseResult.SingleOrNonEmpty<ParseResult.ParseIssue>
): issues is readonly [ParseResult.ParseIssue, ...Array<ParseResult.ParseIssue>] => Array.isArray(issues)

/**
 * Each fault that a schema found, in its order.
 *
 * @internal
 */
export const leaves = (
  issue: ParseResult.ParseIssue,
  path: ReadonlyArray<PropertyKey> = [],
  within?: AST.AST | undefined
): ReadonlyArray<Leaf> => {
  switch (issue._tag) {
    case "Pointer": {
      const next = Array.isArray(issue.path) ? [...path, ...issue.path] : [...path, issue.path as PropertyKey]
      return leaves(issue.issue, next, within)
    }
    case "Composite": {
      const said = own(issue.ast)
      if (said !== undefined) return [{ path, reason: said }]
      const all = isMany(issue.issues) ? issue.issues : [issue.issues]
      return all.flatMap((one) => leaves(one, path, issue.ast))
    }
    case "Refinement": {
      const said = own(issue.ast)
      if (said !== undefined) return [{ path, reason: said }]
      if (issue.kind === "From") return leaves(issue.issue, path, within)
      const reason = issue.issue._tag === "Type" ? issue.issue.message : undefined
      return [{ path, reason: reason ?? `must be ${words(issue.ast)}` }]
    }
    case "Transformation":
      return leaves(issue.issue, path, within)
    case "Unexpected":
      return [{ path, reason: unexpected(path.at(-1) ?? "", within) }]
    case "Missing":
      return [{ path, reason: "is missing" }]
    case "Forbidden":
      return [{ path, reason: issue.message ?? "cannot be given" }]
    case "Type": {
      const said = issue.message ?? own(issue.ast)
      return [
        said === undefined
          ? { path, ...wrongKind(issue.ast), expected: issue.ast, actual: issue.actual }
          : { path, reason: said }
      ]
    }
  }
}

/**
 * Where the fault is, as `a.b`, and what it is. Of the ways in which a value of several kinds does not fit, the deepest is
 * the one that was meant. `field` is empty where the whole is wrong.
 */
export const describe = ({ issue }: ParseResult.ParseError): { readonly field: string; readonly reason: string } => {
  const all = leaves(issue)
  const deepest = all.reduce((a, b) => (b.path.length > a.path.length ? b : a))
  const field = deepest.path.map(String).join(".")
  // What else may stand there.
  const kinds = all.flatMap(({ kind, path }) =>
    kind !== undefined && path.map(String).join(".") === field ? [kind] : []
  )
  const said = all.find(({ kind, path }) => kind === undefined && path.map(String).join(".") === field)
  if (said !== undefined) return { field, reason: said.reason }
  const known = [...new Set(kinds)].filter((kind) => kind !== "undefined")
  return { field, reason: `must be ${known.join(" or ")}` }
}
