/** Names that stand for other models, or for chains of models. */
import * as Either from "effect/Either"

/**
 * Each alias with its models, in the order in which they are asked; no alias is among them.
 *
 * @since 0.2.0
 * @category models
 */
export type Aliases = ReadonlyMap<string, ReadonlyArray<string>>

/** Aliases as they are configured: a model, or a chain of models; each of them may be `auto` or another alias. */
export type AliasOptions = { readonly [name: string]: string | ReadonlyArray<string> }

export const none: Aliases = new Map()

/** The models that a name resolves to; `undefined` if it refers to itself. */
const expand = (
  given: ReadonlyMap<string, ReadonlyArray<string>>,
  name: string,
  within: ReadonlyArray<string>
): ReadonlyArray<string> | undefined => {
  if (within.includes(name)) return undefined
  const models = new Set<string>()
  for (const one of given.get(name) ?? []) {
    const under = given.has(one) && one !== name ? expand(given, one, [...within, name]) : [one]
    if (under === undefined) return undefined
    for (const model of under) models.add(model)
  }
  return [...models]
}

/** Checks aliases that come from outside; the left side says what is wrong with them. */
export const decode = (given: unknown): Either.Either<Aliases, string> => {
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    return Either.left("must be an object of names, each with a model or a list of models")
  }
  const named = new Map<string, ReadonlyArray<string>>()
  for (const [name, models] of Object.entries(given)) {
    if (name === "auto" || name.trim() === "") return Either.left(`'${name}' cannot be given to a model`)
    const chain: ReadonlyArray<unknown> = Array.isArray(models) ? models : [models]
    if (!chain.every((model) => typeof model === "string")) {
      return Either.left(`'${name}' must stand for a model or a list of models`)
    }
    if (chain.length === 0 || chain.some((model) => model === "")) {
      return Either.left(`'${name}' must stand for at least one model`)
    }
    named.set(name, chain)
  }
  const aliases = new Map<string, ReadonlyArray<string>>()
  for (const name of named.keys()) {
    const models = expand(named, name, [])
    if (models === undefined) return Either.left(`'${name}' stands for itself`)
    aliases.set(name, models)
  }
  return Either.right(aliases)
}

/** `own` and, below them, `others`, which the chains of `own` may name. */
export const over = (own: Aliases, others: Aliases): Aliases => {
  if (own.size === 0) return others
  if (others.size === 0) return own
  const all = new Map(others)
  for (const [name, models] of own) {
    const chain = models.flatMap((one) => (one === name || own.has(one) ? [one] : (others.get(one) ?? [one])))
    all.set(name, [...new Set(chain)])
  }
  return all
}

const latest = ":latest"

/**
 * The models of a name that is an alias. Ollama's clients put `:latest` behind a name without a tag.
 */
export const chainOf = (aliases: Aliases, name: string): ReadonlyArray<string> | undefined =>
  aliases.size === 0
    ? undefined
    : (aliases.get(name) ?? (name.endsWith(latest) ? aliases.get(name.slice(0, -latest.length)) : undefined))
