/** Models as rows of listings and searches. */
import * as Either from "effect/Either"
import { InvalidRequest } from "../Errors.js"
import * as Model from "../Model.js"

/** A model with its canonical name (`key`) and its spelling. `parameters` is its number of weights, if known. */
export interface Row {
  readonly key: string
  readonly name: string
  readonly family: string
  readonly generation: number | undefined
  readonly parameters: number | undefined
}

export const make = (key: string, info: Model.ModelInfo): Row => ({
  key,
  name: info.model_name,
  family: info.family,
  generation: info.generation,
  parameters:
    (info.parameter_size === undefined ? undefined : Model.parseParameters(info.parameter_size)) ??
    Model.sizeOfName(info.model_name)
})

/** Whether a model of a server is in no catalogue, and the key not only another name of it. */
export const isExtra = (known: ReadonlyMap<string, unknown>, key: string, info: Model.ModelInfo): boolean =>
  !known.has(key) && key === Model.canonical(info.model_name)

export const byName = (a: Row, b: Row): number => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0)

const bySize = (a: Row, b: Row): number => (b.parameters ?? -1) - (a.parameters ?? -1) || byName(a, b)

/** Filters of a search in addition to the text. */
export interface Bounds {
  readonly generation?: number | undefined
  readonly minParams?: string | undefined
  readonly maxParams?: string | undefined
}

/** Finds rows by a part of their name, largest model first. */
export type Search = (rows: ReadonlyArray<Row>) => ReadonlyArray<Row>

const parameters = (field: string, size: string | undefined): Either.Either<number | undefined, InvalidRequest> => {
  if (size === undefined) return Either.right(undefined)
  const count = Model.parseParameters(size)
  return count === undefined
    ? Either.left(new InvalidRequest({ field, reason: `'${size}' is not a size such as 7b, 500m, 8x7b or 1t` }))
    : Either.right(count)
}

/** Validated before any server is asked. */
export const search = (
  query: string,
  { generation, maxParams, minParams }: Bounds
): Either.Either<Search, InvalidRequest> =>
  Either.gen(function* () {
    const min = yield* parameters("minParams", minParams)
    const max = yield* parameters("maxParams", maxParams)
    if (generation !== undefined && !(Number.isInteger(generation) && generation > 0)) {
      const reason = `${generation} is not a whole number from 1`
      return yield* Either.left(new InvalidRequest({ field: "generation", reason }))
    }
    const text = query.trim().toLowerCase()
    return (rows) =>
      rows
        .filter(
          (row) =>
            row.name.toLowerCase().includes(text) &&
            (generation === undefined || row.generation === generation) &&
            (min === undefined || (row.parameters !== undefined && row.parameters >= min)) &&
            (max === undefined || (row.parameters !== undefined && row.parameters <= max))
        )
        .sort(bySize)
  })
