/** What is written down of a model that is kept: a file in its folder, written last. */
import * as Schema from "effect/Schema"

/** The file in the folder of a model: where there is none, its download is not finished. */
export const manifestFile = "model.json"

const optional = <A, I>(schema: Schema.Schema<A, I>) => Schema.optionalWith(schema, { exact: true })

const Metadata = Schema.Struct({
  version: Schema.Number,
  architecture: optional(Schema.String),
  title: optional(Schema.String),
  parameters: optional(Schema.Number),
  quantisation: optional(Schema.String),
  contextLength: optional(Schema.Number),
  embeddingLength: optional(Schema.Number),
  layers: optional(Schema.Number),
  chatTemplate: Schema.Boolean,
  licence: optional(Schema.String),
  parts: optional(Schema.Number)
})

/** A name in the folder of the model: no path leads out of it. */
const Kept = Schema.String.pipe(Schema.filter((name) => !/[\\/]/.test(name) && name !== ".." && name !== "."))

const ManifestFile = Schema.Struct({
  /** Its name in the folder, or, where the model is only named here, its path. */
  file: Schema.String,
  size: Schema.NonNegativeInt,
  sha256: optional(Schema.String)
})

const Common = {
  version: Schema.Literal(1),
  name: Schema.NonEmptyString,
  source: Schema.String,
  revision: optional(Schema.String),
  metadata: Metadata,
  addedAt: Schema.Number
}

/** What stands in the file. */
export const Manifest = Schema.Union(
  Schema.Struct({
    ...Common,
    kept: Schema.Literal(true),
    files: Schema.NonEmptyArray(Schema.Struct({ ...ManifestFile.fields, file: Kept }))
  }),
  Schema.Struct({ ...Common, kept: Schema.Literal(false), files: Schema.NonEmptyArray(ManifestFile) })
)
export type Manifest = typeof Manifest.Type

const Json = Schema.parseJson(Manifest, { space: 2 })

export const decodeManifest = Schema.decodeUnknownEither(Json)
export const encodeManifest = Schema.encodeSync(Json)
