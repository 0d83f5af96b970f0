/** Declarations of the bodies of Ollama's API: each field has its type in Go, too, in whose words Ollama rejects others. */
import type * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import * as CommonFields from "../../pipeline/commonFields.js"
import * as Validation from "./validation.js"

/** A field with its type in Go. Without one, its reader rejects values that are not valid. */
export interface GoField<A> extends Body.Field<A> {
  readonly go?: Validation.GoType
}

const typed = <A>(field: Body.Field<A>, go: Validation.GoType): GoField<A> => ({ ...field, go })

const goText: Validation.GoType = { kind: "string", type: "string" }
const goFlag: Validation.GoType = { kind: "bool", type: "bool" }
const goWhole: Validation.GoType = { kind: "number", type: "int" }
const goMap: Validation.GoType = { kind: "object", type: "map[string]interface {}" }
const goImage: Validation.GoType = {
  kind: "string",
  type: "api.ImageData",
  check: (value, at) => {
    const bad = (value as string).search(/[^A-Za-z0-9+/=\r\n]/)
    if (bad !== -1) Validation.refuse(400, `illegal base64 data at input byte ${bad}`, "invalid_type", at)
  }
}

/** A string. */
export const text = (notes?: Body.Notes): GoField<string | undefined> => typed(Body.text(notes), goText)

/** `true` or `false`. */
export const flag = (notes?: Body.Notes): GoField<boolean | undefined> => typed(Body.flag(notes), goFlag)

/** A whole number. */
export const whole = (minimum?: number, maximum?: number, notes?: Body.Notes): GoField<number | undefined> =>
  typed(Body.whole(minimum, maximum, notes), goWhole)

/** Any object, passed on unchanged; `type` is its name in Go. */
export const map = (notes?: Body.Notes, type = goMap.type): GoField<BodyFields.Fields | undefined> =>
  typed(Body.json(notes), { kind: "object", type })

/** A list of whole numbers. */
export const wholes = (notes?: Body.Notes): GoField<ReadonlyArray<unknown> | undefined> =>
  typed(Body.list({ type: "integer" }, notes), { kind: "array", type: "[]int", item: goWhole })

/** Images in base64. */
export const images: GoField<ReadonlyArray<unknown> | undefined> = typed(
  Body.list({ type: "string" }, { doc: "In base64." }),
  { kind: "array", type: "[]api.ImageData", item: goImage }
)

/** The same field, as a string in Go. */
export const modelNamed = (field: Body.Field<string | undefined>): GoField<string | undefined> => typed(field, goText)

/** The model of a request. */
export const model = modelNamed(CommonFields.model)

/** The model of an operation on models. */
export const named = {
  model: typed(CommonFields.modelName("The model."), goText),
  name: typed(CommonFields.modelName("The older name of model."), goText)
}

/** Ollama's options. */
export const options: GoField<BodyFields.Fields | undefined> = typed(
  {
    ...CommonFields.ollamaOnly.options,
    schema: () => ({ ...Validation.optionsSchema(), description: "Those that are named, and any other of Ollama's." })
  },
  goMap
)

/** How long the model stays loaded. */
export const keepAlive = typed(CommonFields.ollamaOnly.keep_alive, {
  kind: "any",
  type: "api.Duration",
  check: Validation.checkDuration
})

/** Whether the model thinks. */
export const think = typed(CommonFields.think, {
  kind: "any",
  type: "api.ThinkValue",
  check: (value) => {
    if (typeof value === "boolean" || CommonFields.thinkLevels.some((level) => level === value)) return
    const given = JSON.stringify(value)
    const clipped = given.length > 60 ? `${given.slice(0, 60)}…` : given
    const allowed = `must be "high", "medium", "low", "max", true, or false`
    Validation.refuse(400, `invalid think value: ${clipped} (${allowed})`, "invalid_type", "think")
  }
})

/** Which server an operation on models is meant for. */
export const server = Body.text({ doc: "Which server is meant, by its address or as the lists call it; or all." })

/** Fields by their names. */
interface GoFieldMap {
  readonly [name: string]: GoField<unknown>
}

const typesOf = (fields: GoFieldMap): { readonly [name: string]: Validation.GoType } =>
  Object.fromEntries(Object.entries(fields).flatMap(([name, { go }]) => (go === undefined ? [] : [[name, go]])))

/** A list of objects of this type in Go. */
export const objects = (type: string, struct: Struct<GoFieldMap>): GoField<ReadonlyArray<unknown> | undefined> =>
  typed(Body.list(struct), { kind: "array", type: `[]${type}`, item: { kind: "object", type, fields: struct.types } })

/** An object of this type in Go. */
export const object = (type: string, struct: Struct<GoFieldMap>): GoField<BodyFields.Fields | undefined> =>
  typed(Body.object({}, struct), { kind: "object", type, fields: struct.types })

/** A declared object. */
export interface Struct<F extends GoFieldMap> extends Body.Struct<F> {
  readonly types: { readonly [name: string]: Validation.GoType }
}

/** Declares an object within a body: its fields are ignored where they are not known. */
export const struct = <F extends GoFieldMap>(fields: F): Struct<F> => ({
  ...Body.struct(fields, { open: true }),
  types: typesOf(fields)
})

/** A declared body: `name` is that of its type in Go. */
export interface GoBody<F extends GoFieldMap> extends Struct<F> {
  readonly name: string
  /** Rejects a body with a field of the wrong type, with Ollama's message. */
  readonly check: (body: BodyFields.Fields) => void
}

/** Declares a body. */
export const body = <F extends GoFieldMap>(name: string, fields: F): GoBody<F> => {
  const declared = struct(fields)
  return { ...declared, name, check: (given) => Validation.checkAll(name, declared.types, given) }
}
