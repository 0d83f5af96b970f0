/**
 * Geocoding: coordinates of a city, else of the population centre of a country.
 *
 * Cities come from a package that is loaded at the first lookup; country names from the engine, in the languages below.
 *
 * @internal
 */
import type { CityData } from "city-timezones"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { nearest } from "../Model.js"
import type { Location } from "../Server.js"

interface Country {
  readonly code: string
  /** Sums of the unit vectors of its cities, weighted by population. */
  x: number
  y: number
  z: number
}

/** Languages other than English in which country names are recognised. */
const languages =
  "de,fr,es,it,pt,nl,pl,cs,sk,hu,ro,sv,da,nb,fi,el,tr,ru,uk,bg,hr,sl,lt,lv,et,he,ar,fa,hi,th,vi,id,ja,ko,zh".split(",")

/** Common names that neither the engine nor the package has. */
const aliases: { readonly [name: string]: string } = {
  america: "US",
  usa: "US",
  britain: "GB",
  "great britain": "GB",
  england: "GB",
  scotland: "GB",
  wales: "GB",
  "northern ireland": "GB",
  holland: "NL",
  korea: "KR",
  "korea south": "KR",
  "korea democratic peoples republic": "KP",
  "democratic peoples republic korea": "KP",
  congo: "CG",
  "congo democratic republic": "CD",
  "democratic republic congo": "CD",
  drc: "CD",
  uae: "AE",
  burma: "MM",
  "viet nam": "VN",
  "russian federation": "RU",
  "brunei darussalam": "BN",
  "cabo verde": "CV"
}

/** Words in the official form of a country's name. */
const official =
  /\b(republic|federal|democratic|peoples|islamic|arab|bolivarian|plurinational|kingdom|state|province)\b/g

const plain = (name: string): string =>
  name
    .normalize("NFKD")
    .replace(/[\p{M}.'’]/gu, "")
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, " ")
    .replace(/\b(the|and|of)\b/g, " ")
    .replace(/ +/g, " ")
    .trim()

/** Suffixes of city names: "Frankfurt am Main". */
const suffix = / (city|(am|an|upon|on|sur) .*)$/

const radians = Math.PI / 180

/** The canonical form of a code: `GB` for `UK`; `undefined` if it is not a country's. */
const regionOf = (code: string): string | undefined => {
  try {
    return new Intl.Locale("und", { region: code }).region
  } catch {
    return undefined
  }
}

class Gazetteer {
  private readonly countries = new Map<string, Country>()
  private readonly cities = new Map<string, Array<CityData>>()
  private readonly byName = new Map<string, string>(Object.entries(aliases))
  private readonly byCode = new Map<string, string>()
  private readonly english = new Map<string, string>(Object.entries(aliases))
  private readonly spelling: Array<string> = []
  private translated = false

  constructor(cities: ReadonlyArray<CityData>) {
    this.addNames("en")
    for (const city of cities) {
      const code = /^[A-Z]{2}$/.test(city.iso2) ? city.iso2 : this.byName.get(plain(city.country))
      if (code === undefined) continue
      for (const name of new Set([plain(city.city), plain(city.city_ascii)])) {
        const same = this.cities.get(name)
        if (same === undefined) this.cities.set(name, [city])
        else same.push(city)
      }
      if (/^[A-Z]{3}$/.test(city.iso3)) this.byCode.set(city.iso3, code)
      // Overseas regions are listed under another country's name.
      const name = plain(city.country)
      if (!this.byName.has(name)) this.byName.set(name, code)
      const country = this.countries.get(code) ?? { code, x: 0, y: 0, z: 0 }
      this.countries.set(code, country)
      const weight = Math.max(1, city.pop)
      const nearby = Math.cos(city.lat * radians)
      country.x += weight * nearby * Math.cos(city.lng * radians)
      country.y += weight * nearby * Math.sin(city.lng * radians)
      country.z += weight * Math.sin(city.lat * radians)
    }
  }

  /** The country code for a code or a name. */
  country(name: string): string | undefined {
    const code = name.trim().replaceAll(".", "").toUpperCase()
    if (/^[A-Z]{2}$/.test(code)) {
      const region = regionOf(code)
      if (region !== undefined && new Intl.DisplayNames("en", { type: "region", fallback: "none" }).of(region)) {
        return region
      }
    }
    const key = plain(name)
    return this.byCode.get(code) ?? this.named(key) ?? this.named(plain(key.replace(official, " ")))
  }

  /** The country that a name without a country means, even if cities have the name: by its English name, or code. */
  countryLike(name: string): string | undefined {
    return /^[A-Z]{2,3}$/.test(name.trim()) ? this.country(name) : this.english.get(plain(name))
  }

  /** The most populous city of this name, optionally within a country. */
  city(name: string, country: string | undefined): CityData | undefined {
    const key = plain(name)
    const found = this.cities.get(key) ?? this.cities.get(key.replace(suffix, ""))
    let most: CityData | undefined
    for (const city of found ?? []) {
      if (country !== undefined && this.country(city.iso2) !== country) continue
      if (most === undefined || city.pop > most.pop) most = city
    }
    return most
  }

  middle(code: string): { readonly latitude: number; readonly longitude: number } | undefined {
    const country = this.countries.get(code)
    if (country === undefined) return undefined
    const { x, y, z } = country
    return { latitude: Math.atan2(z, Math.hypot(x, y)) / radians, longitude: Math.atan2(y, x) / radians }
  }

  near(name: string, cities: boolean): ReadonlyArray<string> {
    const known = cities
      ? [...this.spelling, ...[...this.cities.values()].flatMap(([city]) => city?.city ?? [])]
      : this.spelling
    return nearest(name, known, 3)
  }

  private named(key: string): string | undefined {
    const known = this.byName.get(key)
    if (known !== undefined || key === "" || this.translated) return known
    this.translated = true
    for (const language of languages) this.addNames(language)
    return this.byName.get(key)
  }

  private addNames(language: string): void {
    const long = new Intl.DisplayNames(language, { type: "region", fallback: "none" })
    const short = new Intl.DisplayNames(language, { type: "region", fallback: "none", style: "short" })
    for (const code of codes()) {
      for (const name of [long.of(code), short.of(code)]) {
        if (name === undefined) continue
        const key = plain(name)
        if (!this.byName.has(key)) this.byName.set(key, code)
        if (language === "en" && name.length > 3) {
          this.english.set(key, code)
          this.spelling.push(name)
        }
      }
    }
  }
}

let known: ReadonlyArray<string> | undefined

/** Codes of countries and territories, without aliases. */
const codes = (): ReadonlyArray<string> => {
  if (known !== undefined) return known
  const names = new Intl.DisplayNames("en", { type: "region", fallback: "none" })
  const found: Array<string> = []
  for (let a = 65; a <= 90; a++) {
    for (let b = 65; b <= 90; b++) {
      const code = String.fromCharCode(a, b)
      if (/^(EU|EZ|UN|QO|X[AB]|ZZ)$/.test(code) || names.of(code) === undefined || regionOf(code) !== code) continue
      found.push(code)
    }
  }
  known = found
  return known
}

/** When bundled, a CommonJS module only has this; its types say otherwise. */
interface Cities {
  readonly default: { readonly cityMapping: ReadonlyArray<CityData> }
}

let loading: Promise<Gazetteer> | undefined

const load = Effect.promise(() => {
  loading ??= (import("city-timezones") as Promise<unknown>).then(
    (module) => new Gazetteer((module as Cities).default.cityMapping)
  )
  return loading
})

const round = (degrees: number): number => Math.round(degrees * 100) / 100

/** @internal */
export const hasCoordinates = ({ latitude, longitude }: Location): boolean =>
  latitude !== undefined && longitude !== undefined

const didYouMean = (names: ReadonlyArray<string>): string =>
  names.length === 0 ? "" : `; did you mean ${names.map((name) => `'${name}'`).join(", ")}?`

const find = (gazetteer: Gazetteer, location: Location): Either.Either<Location, string> => {
  const [city, country, countryName] = [location.city, location.country, location.countryName].map((name) =>
    name === undefined || name.trim() === "" ? undefined : name
  )
  const nation = country ?? countryName
  let code: string | undefined
  if (country !== undefined) code = gazetteer.country(country)
  if (code === undefined && countryName !== undefined) code = gazetteer.country(countryName)
  if (code === undefined && nation !== undefined) {
    return Either.left(`no country '${nation}' is known${didYouMean(gazetteer.near(nation, false))}`)
  }
  // A single name is often a country's.
  if (code === undefined && city !== undefined) code = gazetteer.countryLike(city)
  const town = city === undefined ? undefined : gazetteer.city(city, code)
  if (town !== undefined) return Either.right({ latitude: round(town.lat), longitude: round(town.lng) })
  if (code === undefined && city !== undefined) code = gazetteer.country(city)
  if (code === undefined) {
    return city === undefined
      ? Either.left("needs a latitude and a longitude, a city or a country")
      : Either.left(
          `no city '${city}' is known${didYouMean(gazetteer.near(city, true)) || ";"} give its country, or a latitude and a longitude`
        )
  }
  const middle = gazetteer.middle(code)
  if (middle === undefined) return Either.left(`the coordinates of '${nation ?? city}' are not known: give them`)
  return Either.right({ latitude: round(middle.latitude), longitude: round(middle.longitude) })
}

/**
 * The coordinates of a location: its own, else those of its city, else the centre of its country. `Left` says why there
 * are none.
 *
 * @internal
 */
export const locate = (location: Location): Effect.Effect<Either.Either<Location, string>> =>
  hasCoordinates(location)
    ? Effect.succeed(Either.right(location))
    : Effect.map(load, (gazetteer) => find(gazetteer, location))
