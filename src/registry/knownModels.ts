/** The models that can be found and listed: those of registry files, and those that servers have. */
import * as Effect from "effect/Effect"
import { InvalidRequest, ModelNotFound } from "../Errors.js"
import { withoutNulls } from "../internal/optionSchemas.js"
import * as Model from "../Model.js"
import * as Catalogue from "./catalogue.js"
import type { ModelLists } from "./modelLists.js"
import { answers, contextOn, unreachable } from "./offers.js"
import * as Rows from "./rows.js"

/**
 * Which models to find; whatever is left out does not matter.
 *
 * @since 0.1.0
 * @category models
 */
export interface SearchOptions {
  /** Only models of this family. */
  readonly family?: string | undefined
  /** Only models of this generation: 3 for `gemma3:4b` and `llama3.2:3b`. */
  readonly generation?: number | undefined
  /** Such as `7b`, `500m`, `8x7b`, `1t`. A model of unknown size does not pass. */
  readonly minParams?: string | undefined
  /** The largest, in the same form. */
  readonly maxParams?: string | undefined
  /** Only models that a known server has. */
  readonly available?: boolean | undefined
}

/**
 * Which models to list; whatever is left out does not matter.
 *
 * @since 0.1.0
 * @category models
 */
export interface ModelsOptions {
  /** Only models of this family. */
  readonly family?: string | undefined
  /** Only models that a known server has. */
  readonly available?: boolean | undefined
}

const searchKeys = new Set(["family", "generation", "minParams", "maxParams", "available"])

/** All registry files together, and their models as rows, sorted by name. `own` are those of the user. */
interface MergedCatalogue {
  readonly own: Catalogue.Catalogue
  readonly catalogue: Catalogue.Catalogue
  readonly rows: ReadonlyArray<Rows.Row>
}

/** Where models are known from. */
interface Origins {
  /** The model of the engine in this process, by its canonical name. */
  readonly engine: { readonly key: string; readonly info: () => Model.ModelInfo }
  /** The user's registry files, and the one of this package. */
  readonly own: Effect.Effect<Catalogue.Catalogue>
  readonly builtIn: Effect.Effect<Catalogue.Catalogue>
  readonly lists: ModelLists
}

/** The models of these origins. Registry files are merged once for each state of the user's. */
export const make = ({ builtIn, engine, lists, own }: Origins) => {
  let merged: MergedCatalogue | undefined
  const whole: Effect.Effect<MergedCatalogue> = Effect.map(Effect.all([own, builtIn]), ([mine, shipped]) => {
    if (merged?.own === mine) return merged
    const info = engine.info()
    const embedded = { ...Catalogue.empty, families: new Set([info.family]), models: new Map([[engine.key, info]]) }
    const catalogue = Catalogue.merge([embedded, mine, shipped])
    const rows = [...catalogue.models].map(([key, info]) => Rows.make(key, info)).sort(Rows.byName)
    merged = { own: mine, catalogue, rows }
    return merged
  })

  /** What servers have, by canonical name: as they spell it. */
  const hosted = Effect.map(lists.known("unknown"), (all) => {
    const models = new Map<string, Model.ModelInfo>()
    for (const known of all.filter(answers)) {
      for (const [key, info] of known.models) {
        const first = models.get(key)
        // Not every server tells what a model can do.
        if (first === undefined) models.set(key, info)
        else if (first.capabilities === undefined && info.capabilities !== undefined) {
          models.set(key, { ...first, capabilities: info.capabilities })
        }
      }
    }
    return models
  })

  const rowsOf = Effect.fnUntraced(function* (options: ModelsOptions) {
    const { catalogue, rows } = yield* whole
    const servers = yield* hosted
    const found = options.available === true ? rows.filter((row) => servers.has(row.key)) : rows
    const extra: Array<Rows.Row> = []
    for (const [key, info] of servers) if (Rows.isExtra(catalogue.models, key, info)) extra.push(Rows.make(key, info))
    const all = extra.length === 0 ? found : [...found, ...extra].sort(Rows.byName)
    const family = options.family?.trim().toLowerCase()
    return family === undefined ? all : all.filter((row) => row.family === family)
  })

  const models = (options: ModelsOptions = {}) => Effect.map(rowsOf(options), (rows) => rows.map((row) => row.name))

  const modelInfo = Effect.fnUntraced(function* (model: string) {
    const key = Model.canonical(model)
    if (key === engine.key) return engine.info()
    const { catalogue, rows } = yield* whole
    const recorded = catalogue.models.get(key)
    if (recorded !== undefined) {
      const allowed = contextOn(yield* lists.now, key)
      return allowed === undefined ? recorded : { ...recorded, context_length: allowed }
    }
    const servers = yield* hosted
    const info = servers.get(key)
    if (info !== undefined) return info
    const names = [...servers.values()].map((other) => other.model_name).concat(rows.map((row) => row.name))
    const unasked = unreachable(yield* lists.now)
    return yield* new ModelNotFound({ model, suggestions: Model.nearest(model, names), ...unasked })
  })

  const searchModels = Effect.fnUntraced(function* (query: string, searchOptions: SearchOptions = {}) {
    const options = withoutNulls(searchOptions ?? {})
    const unknown = Object.keys(options).find((key) => !searchKeys.has(key))
    if (unknown !== undefined) {
      const reason = `there is no such option; there are ${[...searchKeys].join(", ")}`
      return yield* new InvalidRequest({ field: unknown, reason })
    }
    const search = yield* Rows.search(query, options)
    return search(yield* rowsOf(options)).map((row) => row.name)
  })

  return {
    /** All registry files together. */
    catalogue: Effect.map(whole, ({ catalogue }) => catalogue),
    /** The names in them, sorted. */
    recorded: Effect.map(whole, ({ rows }) => rows.map((row) => row.name)),
    families: Effect.map(whole, ({ catalogue }) => [...catalogue.families].sort()),
    models,
    modelInfo,
    searchModels
  }
}
