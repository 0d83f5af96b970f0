/** What does not fit, in words for a model. */
import type { SchemaIssue } from "../Errors.js"

const maxIssues = 20

/** A line each, of the first ones. */
export const linesOf = (issues: ReadonlyArray<SchemaIssue>): string =>
  issues
    .slice(0, maxIssues)
    .map(({ message, path }) => (path === "" ? `- ${message}` : `- ${path}: ${message}`))
    .join("\n")
