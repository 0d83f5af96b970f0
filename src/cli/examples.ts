/**
 * The description of a command, with examples at its end.
 *
 * @since 0.1.0
 */
import * as HelpDoc from "@effect/cli/HelpDoc"

/**
 * @since 0.1.0
 * @category constructors
 */
export const withExamples = (about: string | ReadonlyArray<string>, examples: ReadonlyArray<string>): HelpDoc.HelpDoc =>
  HelpDoc.blocks([
    ...(typeof about === "string" ? [about] : about).map((text) => HelpDoc.p(text)),
    HelpDoc.h1("EXAMPLES"),
    ...examples.map((example) => HelpDoc.p(`$ ${example}`))
  ])
