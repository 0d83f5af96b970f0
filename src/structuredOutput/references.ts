/**
 * References: the targets of `$ref` and similar keywords, that is documents within a schema (`$id`), their anchors, and
 * JSON pointers.
 */
import { isObject } from "../internal/isObject.js"
import { InvalidSchemaError } from "./limits.js"

export type SchemaObject = { readonly [key: string]: unknown }

/** A schema with its own address, and its anchors. */
export interface Resource {
  readonly address: string
  readonly root: SchemaObject
  readonly anchors: Map<string, SchemaObject>
  readonly dynamicAnchors: Map<string, SchemaObject>
}

export interface Target {
  readonly schema: SchemaObject | boolean
  readonly resource: Resource
}

/** Keywords with one schema, several in an array, or several by name. */
const single = [
  "additionalItems",
  "additionalProperties",
  "contains",
  "else",
  "if",
  "items",
  "not",
  "propertyNames",
  "then",
  "unevaluatedItems",
  "unevaluatedProperties"
]
const several = ["allOf", "anyOf", "items", "oneOf", "prefixItems"]
const named = ["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"]

const within = function* (schema: SchemaObject): Generator<SchemaObject> {
  for (const keyword of single) {
    const value = schema[keyword]
    if (isObject(value)) yield value
  }
  for (const keyword of several) {
    const value = schema[keyword]
    if (Array.isArray(value)) for (const one of value) if (isObject(one)) yield one
  }
  for (const keyword of named) {
    const value = schema[keyword]
    if (isObject(value)) for (const one of Object.values(value)) if (isObject(one)) yield one
  }
}

/** Addresses are concatenated often, so their length is bounded. */
const maxLength = 2_048

const quoted = (text: string): string => `'${text.length > 100 ? `${text.slice(0, 100)}…` : text}'`

/** The default base address. */
const unresolved = "json-schema:///"

/** The addresses within a schema. */
export class References {
  readonly root: Resource
  private readonly resources = new Map<string, Resource>()
  private readonly homes = new Map<SchemaObject, Resource>()

  constructor(schema: SchemaObject) {
    this.root = this.enter(schema, unresolved)
    const open: Array<readonly [SchemaObject, Resource]> = [[schema, this.root]]
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      const [one, around] = next
      const id = one["$id"]
      const resource =
        one === schema || typeof id !== "string" || id.startsWith("#")
          ? around
          : this.enter(one, this.absolute(id, around).address)
      this.homes.set(one, resource)
      this.name(one, resource)
      for (const child of within(one)) open.push([child, resource])
    }
  }

  private enter(root: SchemaObject, base: string): Resource {
    const id = root["$id"]
    const own = base === unresolved && typeof id === "string" && !id.startsWith("#")
    const address = own ? this.join(id, base).address : base
    const resource: Resource = { address, root, anchors: new Map(), dynamicAnchors: new Map() }
    this.resources.set(address, resource)
    return resource
  }

  private name(schema: SchemaObject, { anchors, dynamicAnchors }: Resource): void {
    const { $anchor, $dynamicAnchor, $id } = schema
    if (typeof $anchor === "string") anchors.set($anchor, schema)
    // The draft-07 form.
    if (typeof $id === "string" && $id.startsWith("#")) anchors.set($id.slice(1), schema)
    if (typeof $dynamicAnchor === "string") {
      anchors.set($dynamicAnchor, schema)
      dynamicAnchors.set($dynamicAnchor, schema)
    }
  }

  private join(reference: string, base: string): { readonly address: string; readonly fragment: string } {
    if (reference.length > maxLength || base.length > maxLength) {
      throw new InvalidSchemaError(`has the address ${quoted(reference)}, which is longer than ${maxLength} characters`)
    }
    try {
      const url = new URL(reference, base)
      const fragment = url.hash.slice(1)
      url.hash = ""
      return { address: url.href, fragment }
    } catch {
      throw new InvalidSchemaError(`has the address ${quoted(reference)}, which is not valid`)
    }
  }
  private absolute(reference: string, { address }: Resource) {
    return this.join(reference, address)
  }

  /** Every resource that a dynamic reference may resolve to. */
  *dynamic(name: string): Generator<Target> {
    for (const resource of this.resources.values()) {
      const schema = resource.dynamicAnchors.get(name)
      if (schema !== undefined) yield { schema, resource }
    }
  }

  /** Every resource whose root has `$recursiveAnchor`. */
  *recursive(): Generator<Target> {
    for (const resource of this.resources.values()) {
      if (resource.root["$recursiveAnchor"] === true) yield { schema: resource.root, resource }
    }
  }

  /** The resource of a schema, if it is at a known location. */
  home(schema: SchemaObject, around: Resource): Resource {
    return this.homes.get(schema) ?? around
  }

  /** Resolves a reference in `from`. */
  resolve(reference: string, from: Resource): Target {
    let resource = from
    let fragment: string
    if (reference.startsWith("#")) fragment = reference.slice(1)
    else {
      const joined = this.absolute(reference, from)
      const found = this.resources.get(joined.address)
      if (found === undefined) {
        throw new InvalidSchemaError(`refers to ${quoted(reference)}, which is another document: put it into this one`)
      }
      resource = found
      fragment = joined.fragment
    }
    try {
      fragment = decodeURIComponent(fragment)
    } catch {
      throw new InvalidSchemaError(`refers to ${quoted(reference)}, which is not valid`)
    }
    const target = fragment === "" || fragment.startsWith("/") ? this.walk(fragment, resource) : undefined
    const schema = target?.schema ?? resource.anchors.get(fragment)
    if (schema === undefined) throw new InvalidSchemaError(`refers to ${quoted(reference)}, which is not in it`)
    return target ?? { schema: schema as SchemaObject, resource }
  }

  private walk(pointer: string, from: Resource): Target | undefined {
    let at: unknown = from.root
    let resource = from
    for (const step of pointer.split("/").slice(1)) {
      const key = step.replaceAll("~1", "/").replaceAll("~0", "~")
      if (typeof at !== "object" || at === null || !Object.hasOwn(at, key)) return undefined
      at = (at as SchemaObject)[key]
      if (isObject(at)) resource = this.home(at, resource)
    }
    return isObject(at) || typeof at === "boolean" ? { schema: at, resource } : undefined
  }
}
