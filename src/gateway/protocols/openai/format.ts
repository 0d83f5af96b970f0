/** The response format, under all names that OpenAI-compatible servers have for it. */
import type { Format } from "../../../ChatRequest.js"
import * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import { reject } from "../../http/errorResponse.js"
import type { IgnoredFields } from "../../http/fieldPolicy.js"

// =============================================================================
// Fields
// =============================================================================

const formats = ["text", "json_object", "json_schema"] as const

const named = {
  name: Body.required(Body.text()),
  description: Body.text(),
  schema: Body.required(Body.json()),
  strict: Body.flag()
}
const { read: schemaRead } = Body.struct(named)
const type = Body.required(Body.oneOf(formats))

/** With the schema in `json_schema`, as chat completions have it. */
const nestedFormat = Body.struct({
  type,
  schema: Body.json({ doc: "With json_object: the JSON Schema of the answer, as llama.cpp has it." }),
  json_schema: Body.object({}, Body.struct(named, { open: true }))
})

/** With the schema beside the type, as responses have it. */
export const flatFormat = Body.struct({
  type,
  name: Body.text(),
  description: Body.text(),
  schema: Body.json(),
  strict: Body.flag()
})

const schemaField = (notes: Body.Notes): Body.Field<BodyFields.Fields | undefined> =>
  Body.custom(
    {
      ...Body.anyOf({ type: "object" }, { type: "string" }),
      ...(notes.doc === undefined ? {} : { description: notes.doc })
    },
    (body, name, at) => {
      const value = body[name]
      if (typeof value !== "string") return BodyFields.json(body, name, at)
      try {
        return BodyFields.json({ [name]: JSON.parse(value) }, name, at)
      } catch (error) {
        if (error instanceof SyntaxError) reject(at, "must be a JSON Schema")
        throw error
      }
    }
  )

/** The fields for the response format: vLLM's and llama.cpp's have a schema as an object, or its JSON as a string. */
export const fields = (doc?: string) => {
  const notes = doc === undefined ? {} : { doc }
  return {
    response_format: Body.object(notes, nestedFormat),
    guided_json: schemaField(notes),
    json_schema: schemaField(notes)
  }
}

const { read } = Body.struct(fields())

// =============================================================================
// Reading them
// =============================================================================

/** The response format of a body. */
export const responseFormat = (body: BodyFields.Fields, ignored: IgnoredFields): Format => {
  const given = format(read.response_format(body), "response_format", true, ignored)
  if (given !== "text") return given
  return read.guided_json(body) ?? read.json_schema(body) ?? "text"
}

/** The response format: `value` holds `type`, and the schema directly or in `json_schema`. */
export const format = (
  value: BodyFields.Fields | undefined,
  at: string,
  nested: boolean,
  ignored: IgnoredFields
): Format => {
  if (value === undefined) return "text"
  const struct = nested ? nestedFormat : flatFormat
  ignored.checkObject(value, struct.names, at)
  const kind = struct.read.type(value, `${at}.type`)
  if (kind === "text") return "text"
  // llama.cpp and DeepSeek accept a schema here, too.
  if (kind === "json_object") return struct.read.schema(value, `${at}.schema`) ?? "json"
  const where = nested ? `${at}.json_schema` : at
  const inner = nested ? (nestedFormat.read.json_schema(value, where) ?? reject(where, "is missing")) : value
  schemaRead.name(inner, `${where}.name`)
  schemaRead.strict(inner, `${where}.strict`)
  return schemaRead.schema(inner, `${where}.schema`)
}
