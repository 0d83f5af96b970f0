/**
 * What a setting is: one declaration, from which come the option of a program, its form in the configuration file, its
 * variable of the environment, its flag, its checks, and its line in the documentation.
 */
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import * as AST from "effect/SchemaAST"
import type { Given } from "../internal/optionSchemas.js"
import { annotationOf, InFile, Unit } from "../internal/units.js"

/** How a setting is declared. */
export interface Declaration<A, D extends A | undefined> {
  /** What it is for, in a sentence or two. */
  readonly doc: string
  /** The value if no source gives one; `defaultText` says it in words, where that is clearer or there is none. */
  readonly default?: D
  readonly defaultText?: string | undefined
  /** Other names that it may be given by, as an option and in the file. */
  readonly aliases?: ReadonlyArray<string> | undefined
  /** Variables of the environment that give it, the first one that is set wins. */
  readonly env?: ReadonlyArray<string> | undefined
  /**
   * The value of a variable or a flag, as it would stand in the file (`undefined`: none), or why it has none; default:
   * as the schema says (numbers, `true` and `false`, lists separated by commas).
   */
  readonly text?: ((text: string, variable: string) => Either.Either<unknown, string>) | undefined
  /** Its form in the configuration file, where that is another one; `false`: it cannot stand there. */
  readonly file?: Schema.Schema.AnyNoContext | false | undefined
  /** Of `aicortex serve`, without the dashes; `alias` is its short name. */
  readonly flag?: { readonly name: string; readonly value?: string; readonly alias?: string } | undefined
  /** An object that is put together from all places that give it, member by member. */
  readonly join?: boolean | undefined
  /** Members that it does not have, with the reason. */
  readonly excluded?: { readonly [member: string]: string } | undefined
  /** Whether the value must not be shown in an error. */
  readonly secret?: boolean | undefined
}

/** A setting: `schema` makes a value (times in milliseconds) of what a program gives. */
// biome-ignore lint/suspicious/noExplicitAny: code that leaves it out takes settings in any input form.
export interface Setting<A, D extends A | undefined, I = any> extends Declaration<A, D> {
  readonly schema: Schema.Schema<A, I>
}

// biome-ignore lint/suspicious/noExplicitAny: settings have values of any type.
export type AnySetting = Setting<any, any, any>

/** Settings by their names. */
export interface Settings {
  readonly [name: string]: AnySetting
}

/** A schema that was declared without its form for programs takes its own values. */
type Input<A, I> = unknown extends I ? A : I

/** The options that settings are in a program. */
export type OptionsOf<S> = {
  readonly [K in keyof S]?: S[K] extends Setting<infer A, infer _, infer I> ? Input<A, I> | undefined : never
}

/** The values of settings where each has its default. */
export type ValuesOf<S> = {
  readonly [K in keyof S]: S[K] extends Setting<infer A, infer D, infer _>
    ? undefined extends D
      ? A | undefined
      : A
    : never
}

/** Declares a setting. */
export const setting = <S extends Schema.Schema.AnyNoContext, const D extends S["Type"] | undefined = undefined>(
  schema: S,
  declaration: Declaration<S["Type"], D>
): Setting<S["Type"], D, Given<S>> => ({ ...declaration, schema })

/** The values of settings that no source gives. */
export const defaultsOf = <S extends Settings>(settings: S): ValuesOf<S> =>
  Object.fromEntries(Object.entries(settings).map(([name, one]) => [name, one.default as unknown])) as ValuesOf<S>

/** All names that a setting may be given by, its own first. */
export const namesOf = (name: string, { aliases = [] }: AnySetting): ReadonlyArray<string> => [name, ...aliases]

/** The unit of a setting's value in a program. */
export const unitOf = ({ schema }: AnySetting): Unit | undefined => annotationOf<Unit>(schema.ast, Unit)

// =============================================================================
// the form in the file
// =============================================================================

/** The schema's form in the file, with all in it that has another one there: times are in seconds. */
const inFile = (ast: AST.AST): AST.AST => {
  const own = annotationOf<Schema.Schema.AnyNoContext>(ast, InFile)
  if (own !== undefined) return own.ast
  if (AST.isRefinement(ast)) {
    const from = inFile(ast.from)
    return from === ast.from ? ast : new AST.Refinement(from, ast.filter, ast.annotations)
  }
  if (AST.isUnion(ast)) return AST.Union.make(ast.types.map(inFile), ast.annotations)
  if (AST.isTypeLiteral(ast)) {
    return new AST.TypeLiteral(
      ast.propertySignatures.map(
        ({ annotations, isOptional, isReadonly, name, type }) =>
          new AST.PropertySignature(name, inFile(type), isOptional, isReadonly, annotations)
      ),
      ast.indexSignatures,
      ast.annotations
    )
  }
  return ast
}

const forms = new WeakMap<AnySetting, Schema.Schema.AnyNoContext>()

/** The schema that decodes what stands in the configuration file into what a program would give. */
export const fileSchemaOf = (setting: AnySetting): Schema.Schema.AnyNoContext => {
  const known = forms.get(setting)
  if (known !== undefined) return known
  const schema = setting.file || (Schema.make(inFile(setting.schema.ast)) as Schema.Schema.AnyNoContext)
  forms.set(setting, schema)
  return schema
}

/** Settings as a section of the configuration file. */
export const sectionOf = (
  settings: Settings
): { readonly [name: string]: Schema.optional<Schema.Schema.AnyNoContext> } =>
  Object.fromEntries(
    Object.entries(settings).flatMap(([name, setting]) =>
      setting.file === false
        ? []
        : namesOf(name, setting).map((one) => {
            const description = one === name ? descriptionOf(setting) : `Another name of ${name}.`
            return [one, Schema.optional(fileSchemaOf(setting).annotations({ description }))] as const
          })
    )
  )

// =============================================================================
// the form in a variable or a flag
// =============================================================================

const isList = (ast: AST.AST): boolean =>
  AST.isTupleType(ast) || (AST.isUnion(ast) && ast.types.some(isList)) || (AST.isRefinement(ast) && isList(ast.from))

const accepts = (ast: AST.AST, is: (ast: AST.AST) => boolean): boolean =>
  is(ast) ||
  (AST.isUnion(ast) && ast.types.some((type) => accepts(type, is))) ||
  (AST.isRefinement(ast) && accepts(ast.from, is)) ||
  (AST.isTransformation(ast) && accepts(ast.from, is))

/** What a text is read as where it stands for the value of a setting. */
export const kindOf = (setting: AnySetting): "number" | "boolean" | "list" | "text" => {
  const { ast } = fileSchemaOf(setting)
  if (accepts(ast, AST.isNumberKeyword)) return "number"
  if (accepts(ast, AST.isBooleanKeyword)) return "boolean"
  return isList(ast) ? "list" : "text"
}

/** A text as the value that it stands for in the configuration file. */
export const fromText = (setting: AnySetting, text: string, variable: string): Either.Either<unknown, string> => {
  if (setting.text !== undefined) return setting.text(text, variable)
  const kind = kindOf(setting)
  if (kind === "number") {
    return Either.right(text.trim() === "" || Number.isNaN(Number(text)) ? text : Number(text))
  }
  if (kind === "boolean" && (text === "true" || text === "false")) return Either.right(text === "true")
  return Either.right(kind === "list" ? text.split(",").map((part) => part.trim()) : text)
}

// =============================================================================
// Messages
// =============================================================================

/** A value as it would stand in the configuration file: times are in seconds. */
export const inFileForm = (setting: AnySetting, value: unknown): unknown =>
  value === undefined ? undefined : Schema.encodeUnknownSync(fileSchemaOf(setting))(value)

const ownWords = (value: unknown): string => {
  if (value === true || value === false || typeof value === "number") return String(value)
  return typeof value === "string" ? value : JSON.stringify(value)
}

/** What holds where a setting is not given, as the file would say it; `undefined` where there is nothing. */
export const defaultOf = (setting: AnySetting): string | undefined => {
  if (setting.defaultText !== undefined) return setting.defaultText
  const value: unknown = setting.default
  if (value === undefined) return undefined
  return unitOf(setting) === "ms" && typeof value === "number" ? `${value / 1000} s` : ownWords(value)
}

/** What a setting is for, with its default. */
export const descriptionOf = (setting: AnySetting): string => {
  const value = defaultOf(setting)
  return value === undefined ? setting.doc : `${setting.doc} Default: ${value}.`
}
