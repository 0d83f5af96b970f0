/** Describes violations for a model. */
import type { SchemaIssue } from "../Errors.js"

const maxIssues = 20

/** One line per violation, for the first few. */
export const linesOf = (issues: ReadonlyArray<SchemaIssue>): string =>
  issues
    .slice(0, maxIssues)
    .map(({ message, path }) => (path === "" ? `- ${message}` : `- ${path}: ${message}`))
    .join("\n")
