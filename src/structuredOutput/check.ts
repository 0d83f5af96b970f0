/**
 * Checking a value: what a compiled schema is made of, and what it says of a value.
 *
 * @since 0.1.0
 */
import type { SchemaIssue } from "../Errors.js"
import { CheckTooCostly, maxAnswerDepth, maxSteps } from "./limits.js"
import type { Resource } from "./references.js"

/**
 * Where in a value.
 *
 * @since 0.1.0
 * @category models
 */
export interface Path {
  readonly parent: Path | undefined
  readonly key: string | number
}

/**
 * What of an object or array some keyword has looked at, for `unevaluatedProperties` and `unevaluatedItems`.
 *
 * @since 0.1.0
 * @category models
 */
export class EvaluatedKeys {
  allProperties = false
  readonly properties = new Set<string>()
  /** So many from the beginning. */
  items = 0
  readonly others = new Set<number>()

  add(other: EvaluatedKeys, run: CheckRun): void {
    run.spend(other.properties.size + other.others.size)
    this.allProperties ||= other.allProperties
    for (const key of other.properties) this.properties.add(key)
    this.items = Math.max(this.items, other.items)
    for (const index of other.others) this.others.add(index)
  }
}

/**
 * One thing that a schema says of a value: whether it holds. What does not is told to `run`.
 *
 * @since 0.1.0
 * @category models
 */
export type Check = (value: unknown, run: CheckRun, path: Path | undefined, seen: EvaluatedKeys | undefined) => boolean

/**
 * A schema that was compiled. `inPlace` are those that it applies to the same value.
 *
 * @since 0.1.0
 * @category models
 */
export class Node {
  readonly checks: Array<Check> = []
  readonly inPlace: Array<Node> = []
  constructor(readonly resource: Resource) {}
}

/** More than these say nothing new. */
const maxIssues = 100

/** How much of a key or an allowed value is told. */
const maxShown = 500

const shorten = (text: string): string => (text.length > maxShown ? `${text.slice(0, maxShown)}…` : text)

/**
 * A value as it is told in an issue.
 *
 * @since 0.1.0
 * @category accessors
 */
export const show = (value: unknown): string =>
  shorten(JSON.stringify(typeof value === "string" ? shorten(value) : value) ?? "")

/**
 * The check of one value, which ends with `CheckTooCostly` where it takes more than it may.
 *
 * @since 0.1.0
 * @category models
 */
export class CheckRun {
  readonly issues: Array<SchemaIssue> = []
  /** The resources that the schemas under way stand in, outermost first. */
  readonly scope: Array<Resource> = []
  private left = maxSteps
  private depth = 0
  private quiet = 0

  /** `tracks`: whether the schema asks what was evaluated. */
  constructor(private readonly tracks: boolean) {}

  readonly spend = (steps: number): void => {
    this.left -= steps
    if (this.left < 0) throw new CheckTooCostly(`it takes more than ${maxSteps} steps`)
  }

  /** Always `false`. `detail` is what else there is to tell. */
  fail(path: Path | undefined, message: string, detail?: string): false {
    if (this.quiet > 0 || this.issues.length >= maxIssues) return false
    this.spend(8)
    const steps: Array<string> = []
    for (let at = path; at !== undefined; at = at.parent) steps.push(shorten(String(at.key)))
    this.issues.push({
      path: steps.reverse().join("."),
      message: detail === undefined ? message : `${message}: ${detail}`
    })
    return false
  }

  /** Whether `node` holds for a part of the value. */
  part(node: Node, value: unknown, path: Path | undefined): boolean {
    return this.apply(node, value, path, undefined)
  }

  /** Whether `node` holds for the value itself, which it then has looked at, too. */
  apply(node: Node, value: unknown, path: Path | undefined, seen: EvaluatedKeys | undefined): boolean {
    this.spend(1 + node.checks.length / 4)
    if (++this.depth > maxAnswerDepth) throw new CheckTooCostly(`it is nested deeper than ${maxAnswerDepth} levels`)
    const enters = this.scope.at(-1) !== node.resource
    if (enters) this.scope.push(node.resource)
    const own = this.tracks && typeof value === "object" && value !== null ? new EvaluatedKeys() : undefined
    let holds = true
    for (const check of node.checks) if (!check(value, this, path, own)) holds = false
    if (holds && own !== undefined) seen?.add(own, this)
    if (enters) this.scope.pop()
    this.depth--
    return holds
  }

  /** The same, where nobody asks why it does not hold. */
  quietly(node: Node, value: unknown, path: Path | undefined, seen: EvaluatedKeys | undefined): boolean {
    this.quiet++
    const holds = this.apply(node, value, path, seen)
    this.quiet--
    return holds
  }
}
