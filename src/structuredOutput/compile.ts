/**
 * Compiles a JSON Schema. The schema is interpreted, no code is generated: that takes time proportional to its length,
 * and it can execute nothing.
 *
 * The keywords of all drafts from 6 to 2020-12 are supported, whatever `$schema` says, since none of them has two
 * meanings; also `nullable` and the boolean `exclusiveMinimum` of older ones. `format` is an annotation, as in later
 * drafts, and not checked. Other documents are never fetched.
 */

import { isObject } from "../internal/isObject.js"
import { type Check, Node, show } from "./check.js"
import * as Keywords from "./keywords.js"
import { InvalidSchemaError, maxCombinations, maxIndirections, maxPatterns, maxSubschemas } from "./limits.js"
import type * as Pattern from "./pattern.js"
import { References, type Resource, type SchemaObject, type Target } from "./references.js"

// =============================================================================
// One schema
// =============================================================================

class Compiler {
  private readonly nodes = new Map<SchemaObject, Node>()
  private readonly open: Array<readonly [SchemaObject, Node]> = []
  private readonly addresses: References
  private readonly dynamics = new Map<string, ReadonlyMap<Resource, Node>>()
  private readonly patternsOf = new Map<string, Pattern.Pattern>()
  private patterns = 0
  private subschemas = 0
  tracks = false

  constructor(
    root: SchemaObject,
    private readonly readPattern: typeof Pattern.compile | undefined
  ) {
    this.addresses = new References(root)
  }

  run(root: SchemaObject): Node {
    const first = this.node({ schema: root, resource: this.addresses.root })
    for (let next = this.open.pop(); next !== undefined; next = this.open.pop()) this.fill(...next)
    return first
  }

  all(): Iterable<Node> {
    return this.nodes.values()
  }

  private node({ resource, schema }: Target): Node {
    const known = typeof schema === "boolean" ? undefined : this.nodes.get(schema)
    if (known !== undefined) return known
    if (++this.subschemas > maxSubschemas) {
      throw new InvalidSchemaError(`has more than ${maxSubschemas} subschemas, the limit of a schema`)
    }
    if (typeof schema === "boolean") {
      const node = new Node(resource)
      if (!schema) node.checks.push((_, run, path) => run.fail(path, "boolean schema is false"))
      return node
    }
    const node = new Node(resource)
    this.nodes.set(schema, node)
    this.open.push([schema, node])
    return node
  }

  private fill(schema: SchemaObject, node: Node): void {
    const { resource } = node
    const add = (check: Check | undefined) => {
      if (check !== undefined) node.checks.push(check)
    }
    const of = (value: unknown, keyword: string): Node => {
      if (!isObject(value) && typeof value !== "boolean") return Keywords.wrong(keyword, "must be a schema")
      return this.node({ schema: value, resource: isObject(value) ? this.addresses.home(value, resource) : resource })
    }
    const inPlace = (value: unknown, keyword: string): Node => {
      const child = of(value, keyword)
      node.inPlace.push(child)
      return child
    }
    const refer = (target: Target): Node => {
      const child = this.node(target)
      node.inPlace.push(child)
      return child
    }
    add(this.reference(schema, resource, refer))
    add(Keywords.typed(schema))
    add(Keywords.allowed(schema))
    Keywords.sized(schema).forEach(add)
    add(this.pattern(schema))
    add(Keywords.unique(schema))
    add(Keywords.contains(schema, of))
    Keywords.items(schema, of).forEach(add)
    Keywords.required(schema).forEach(add)
    add(Keywords.names(schema, of))
    add(this.properties(schema, of))
    Keywords.dependents(schema, inPlace).forEach(add)
    Keywords.combined(schema, inPlace).forEach(add)
    add(this.unevaluatedProperties(schema, of))
    add(this.unevaluatedItems(schema, of))
  }

  private compilePattern(source: string): Pattern.Pattern {
    if (this.readPattern === undefined) throw new Error("a schema with patterns was compiled without them")
    const known = this.patternsOf.get(source)
    if (known !== undefined) return known
    const spend = (size: number) => {
      this.patterns += size
      if (this.patterns > maxPatterns) {
        throw new InvalidSchemaError(
          `has patterns that are larger than ${maxPatterns} characters together, with their repetitions spelt out, ` +
            "the limit of a schema"
        )
      }
    }
    // Even the shortest pattern has a cost.
    spend(5)
    const pattern = this.readPattern(source, spend)
    this.patternsOf.set(source, pattern)
    return pattern
  }

  private pattern(schema: SchemaObject): Check | undefined {
    const source = Keywords.text(schema, "pattern")
    if (source === undefined) return undefined
    const { size, test } = this.compilePattern(source)
    return (value, run, path) => {
      if (typeof value !== "string") return true
      run.spend((value.length * size) / Keywords.stepOf)
      return test(value) || run.fail(path, `must match pattern "${source}"`)
    }
  }

  /** The possible targets of dynamic references of one name, the same for all of them. */
  private among(name: string, targets: () => Iterable<Target>): ReadonlyMap<Resource, Node> {
    const known = this.dynamics.get(name)
    if (known !== undefined) return known
    const nodes = new Map(Array.from(targets(), (target) => [target.resource, this.node(target)]))
    this.dynamics.set(name, nodes)
    return nodes
  }

  private reference(schema: SchemaObject, resource: Resource, refer: (target: Target) => Node): Check | undefined {
    const checks: Array<Check> = []
    const { $recursiveRef } = schema
    const $ref = Keywords.text(schema, "$ref")
    const $dynamicRef = Keywords.text(schema, "$dynamicRef")
    const fixed = (target: Target): Check => {
      const node = refer(target)
      return (value, run, path, seen) => run.apply(node, value, path, seen)
    }
    /** The outermost of `targets` in the dynamic scope. */
    const dynamic = (name: string, targets: () => Iterable<Target>): Check => {
      const nodes = this.among(name, targets)
      return (value, run, path, seen) => {
        run.spend(run.scope.length / Keywords.stepOf)
        const outermost = run.scope.find((one) => nodes.has(one))
        const node = outermost === undefined ? undefined : nodes.get(outermost)
        return node === undefined || run.apply(node, value, path, seen)
      }
    }
    if ($ref !== undefined) checks.push(fixed(this.addresses.resolve($ref, resource)))
    if ($dynamicRef !== undefined) {
      const target = this.addresses.resolve($dynamicRef, resource)
      const name = isObject(target.schema) ? target.schema["$dynamicAnchor"] : undefined
      const isDynamic = typeof name === "string" && $dynamicRef.endsWith(`#${name}`)
      const check = isDynamic ? dynamic(`#${name}`, () => this.addresses.dynamic(name)) : fixed(target)
      const entered = this.node(target)
      // The static target comes first, if the dynamic scope has none of the others.
      checks.push(
        isDynamic
          ? (value, run, path, seen) => {
              if (run.scope.some((one) => one.dynamicAnchors.has(name))) return check(value, run, path, seen)
              return run.apply(entered, value, path, seen)
            }
          : check
      )
    }
    if ($recursiveRef !== undefined) {
      if ($recursiveRef !== "#") return Keywords.wrong("$recursiveRef", `must be "#"`)
      checks.push(
        resource.root["$recursiveAnchor"] === true
          ? dynamic("", () => this.addresses.recursive())
          : fixed({ schema: resource.root, resource })
      )
    }
    return checks.length <= 1 ? checks[0] : (...args) => checks.map((check) => check(...args)).every(Boolean)
  }

  private properties(schema: SchemaObject, of: Keywords.Of): Check | undefined {
    const { additionalProperties } = schema
    if (!("properties" in schema) && !("patternProperties" in schema) && additionalProperties === undefined) {
      return undefined
    }
    const named = new Map(
      Object.entries(Keywords.record(schema, "properties")).map(
        ([key, one]) => [key, of(one, `properties/${key}`)] as const
      )
    )
    const patterned = Object.entries(Keywords.record(schema, "patternProperties")).map(([source, one]) => ({
      pattern: this.compilePattern(source),
      node: of(one, `patternProperties/${source}`)
    }))
    const others = additionalProperties === undefined ? undefined : of(additionalProperties, "additionalProperties")
    const none = additionalProperties === false
    return (value, run, path, seen) => {
      if (!isObject(value)) return true
      let holds = true
      for (const key of Object.keys(value)) {
        run.spend(1)
        let known = false
        const check = (node: Node) => {
          known = true
          if (!run.part(node, value[key], { parent: path, key })) holds = false
        }
        const own = named.get(key)
        if (own !== undefined) check(own)
        for (const { node, pattern } of patterned) {
          run.spend(1 + (key.length * pattern.size) / Keywords.stepOf)
          if (pattern.test(key)) check(node)
        }
        if (known) seen?.properties.add(key)
        else if (others !== undefined) {
          if (none) holds = run.fail(path, "must NOT have additional properties", show(key))
          else check(others)
        }
      }
      if (others !== undefined && seen !== undefined) seen.allProperties = true
      return holds
    }
  }

  private unevaluatedProperties(schema: SchemaObject, of: Keywords.Of): Check | undefined {
    const given = schema["unevaluatedProperties"]
    if (given === undefined) return undefined
    this.tracks = true
    const node = of(given, "unevaluatedProperties")
    return (value, run, path, seen) => {
      if (!isObject(value) || seen === undefined || seen.allProperties) return true
      let holds = true
      for (const key of Object.keys(value)) {
        run.spend(1)
        if (seen.properties.has(key)) continue
        if (given === false) holds = run.fail(path, "must NOT have unevaluated properties", show(key))
        else if (!run.part(node, value[key], { parent: path, key })) holds = false
      }
      seen.allProperties = true
      return holds
    }
  }

  private unevaluatedItems(schema: SchemaObject, of: Keywords.Of): Check | undefined {
    const given = schema["unevaluatedItems"]
    if (given === undefined) return undefined
    this.tracks = true
    const node = of(given, "unevaluatedItems")
    return (value, run, path, seen) => {
      if (!Array.isArray(value) || seen === undefined) return true
      let holds = true
      for (let key = seen.items; key < value.length; key++) {
        run.spend(1)
        if (seen.others.has(key)) continue
        if (given === false) return run.fail(path, `must NOT have more than ${key} items`)
        if (!run.part(node, value[key], { parent: path, key })) holds = false
      }
      seen.items = Number.POSITIVE_INFINITY
      return holds
    }
  }
}

// =============================================================================
// The whole
// =============================================================================

/** How many subschemas `node` applies to one value; a schema that applies itself to the same value never ends. */
const combinations = (node: Node, known: Map<Node, number>, depth = 0): number => {
  const before = known.get(node)
  if (before === -1) throw new InvalidSchemaError("refers to itself without looking into the value: it has no end")
  if (before !== undefined) return before
  if (depth > maxIndirections) {
    throw new InvalidSchemaError(`has more than ${maxIndirections} references within each other, the limit of a schema`)
  }
  known.set(node, -1)
  let sum = 1
  for (const child of node.inPlace) sum += combinations(child, known, depth + 1)
  if (sum > maxCombinations) {
    throw new InvalidSchemaError(`combines more than ${maxCombinations} schemas for one value, the limit of a schema`)
  }
  known.set(node, sum)
  return sum
}

/** A compiled schema. */
export interface Compiled {
  readonly root: Node
  /** Whether it needs to know what was evaluated. */
  readonly tracks: boolean
}

/**
 * Throws `InvalidSchemaError`. The schema must have been measured before; `readPattern` reads its patterns, if it may
 * have any.
 */
export const compile = (schema: SchemaObject, readPattern?: typeof Pattern.compile): Compiled => {
  const compiler = new Compiler(schema, readPattern)
  const root = compiler.run(schema)
  const known = new Map<Node, number>()
  for (const node of compiler.all()) combinations(node, known)
  return { root, tracks: compiler.tracks }
}
