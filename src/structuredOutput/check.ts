/** Checking a value against a compiled schema. */
import type { SchemaIssue } from "../Errors.js"
import { CheckTooCostly, maxAnswerDepth, maxSteps } from "./limits.js"
import type { Resource } from "./references.js"

/** The path within a value. */
export interface Path {
  readonly parent: Path | undefined
  readonly key: string | number
}

/** The parts of an object or array that were evaluated, for `unevaluatedProperties` and `unevaluatedItems`. */
export class EvaluatedKeys {
  allProperties = false
  readonly properties = new Set<string>()
  /** Number of items from the start. */
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

/** One assertion of a schema: whether it holds. Violations are reported to `run`. */
export type Check = (value: unknown, run: CheckRun, path: Path | undefined, seen: EvaluatedKeys | undefined) => boolean

/** A compiled schema. `inPlace` are those that apply to the same value. */
export class Node {
  readonly checks: Array<Check> = []
  readonly inPlace: Array<Node> = []
  constructor(readonly resource: Resource) {}
}

/** Further issues would add nothing. */
const maxIssues = 100

/** Maximum length of a key or an allowed value in a message. */
const maxShown = 500

const shorten = (text: string): string => (text.length > maxShown ? `${text.slice(0, maxShown)}…` : text)

/** A value as shown in an issue. */
export const show = (value: unknown): string =>
  shorten(JSON.stringify(typeof value === "string" ? shorten(value) : value) ?? "")

/** The check of one value, which throws `CheckTooCostly` beyond its budget. */
export class CheckRun {
  readonly issues: Array<SchemaIssue> = []
  /** The resources of the schemas being applied, outermost first. */
  readonly scope: Array<Resource> = []
  private left = maxSteps
  private depth = 0
  private quiet = 0

  /** `tracks`: whether the schema needs to know what was evaluated. */
  constructor(private readonly tracks: boolean) {}

  readonly spend = (steps: number): void => {
    this.left -= steps
    if (this.left < 0) throw new CheckTooCostly(`it takes more than ${maxSteps} steps`)
  }

  /** Always `false`. `detail` is additional text. */
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

  /** Whether `node` holds for the value itself, which then counts as evaluated, too. */
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

  /** The same without recording issues. */
  quietly(node: Node, value: unknown, path: Path | undefined, seen: EvaluatedKeys | undefined): boolean {
    this.quiet++
    const holds = this.apply(node, value, path, seen)
    this.quiet--
    return holds
  }
}
