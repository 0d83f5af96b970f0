/**
 * The location of a server or of the user.
 */
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"

/**
 * Where a server stands, or where you are. `country` is the ISO code (`DE`), `countryName` the name; either may be written
 * both ways. `latitude` and `longitude`, in degrees, are what `nearest` measures with; where they are missing they are those
 * of the city, else of the middle of the country's population.
 *
 * @since 0.1.0
 * @category models
 */
export const Location = Schema.Struct({
  /** The name of the city. */
  city: Schema.optional(Schema.String),
  /** The country's ISO code (`DE`), or its name. */
  country: Schema.optional(Schema.String),
  /** The country's name, or its ISO code. */
  countryName: Schema.optional(Schema.String),
  /** The name of the continent. */
  continent: Schema.optional(Schema.String),
  /** In degrees, -90 to 90; default: that of the city, else of the country. */
  latitude: Schema.optional(Schema.Number.pipe(Schema.between(-90, 90))),
  /** In degrees, -180 to 180; default: that of the city, else of the country. */
  longitude: Schema.optional(Schema.Number.pipe(Schema.between(-180, 180)))
})

/**
 * @since 0.1.0
 * @category models
 */
export type Location = typeof Location.Type

/**
 * A place as one writes it: `52.52,13.40`, `Berlin`, `Berlin, DE`, `Germany`. A single name is a city's or a country's.
 *
 * @since 0.2.0
 * @category models
 */
export const LocationText = Schema.transformOrFail(Schema.String, Location, {
  strict: true,
  decode: (text, _, ast) => {
    const parts = text.split(",").map((part) => part.trim())
    const [first = "", last = ""] = [parts[0], parts.at(-1)]
    if (parts.includes("")) {
      const reason = `'${text}' must be a place, such as 'Berlin, DE' or 52.52,13.40`
      return ParseResult.fail(new ParseResult.Type(ast, text, reason))
    }
    if (!parts.some((part) => Number.isFinite(Number(part)))) {
      return ParseResult.succeed(parts.length === 1 ? { city: first } : { city: first, country: last })
    }
    const [latitude, longitude] = [Number(first), Number(last)]
    if (parts.length === 2 && Math.abs(latitude) <= 90 && Math.abs(longitude) <= 180) {
      return ParseResult.succeed({ latitude, longitude })
    }
    const reason = `'${text}' must be a latitude and a longitude in degrees, such as 52.52,13.40`
    return ParseResult.fail(new ParseResult.Type(ast, text, reason))
  },
  encode: (location, _, ast) => ParseResult.fail(new ParseResult.Forbidden(ast, location, "is only read"))
})

/**
 * A place as users give it.
 *
 * @since 0.2.0
 * @category models
 */
export const LocationInput = Schema.Union(Location, LocationText)
