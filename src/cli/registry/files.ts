/** Files that the steps of a command hand to each other. */
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as StoreHost from "../../cortex/modelStoreHost.js"
import type { RegistryFileFailed } from "../../Errors.js"
import type { Source } from "../../RegistryPipeline.js"
import * as Folder from "../../registry/pipeline/folder.js"
import { CommandFailed, UsageError } from "../errors.js"
import * as Output from "../output.js"
import * as Stdin from "../stdin.js"

/** The text of a file, or of standard input if it is `-`. */
const readInput = (path: string): Effect.Effect<string, RegistryFileFailed | CommandFailed, FileSystem.FileSystem> =>
  path === "-" ? Stdin.all : Folder.readFile(path, true)

/** The value of a file of JSON, or of standard input if it is `-`. */
export const readJson = (path: string) =>
  Effect.flatMap(readInput(path), (text) =>
    Effect.try({
      try: (): unknown => JSON.parse(text),
      catch: (error) =>
        new CommandFailed({ message: `${path} is not JSON: ${error instanceof Error ? error.message : error}` })
    })
  )

/** The source that an argument names: `-` is standard input. */
const sourceOf = (argument: string) =>
  argument === "-"
    ? Effect.map(Stdin.all, (text): Source => ({ name: "standard input", text }))
    : Effect.succeed<Source>(argument)

/** The sources that arguments name. */
export const sourcesOf = (given: ReadonlyArray<string>) => Effect.forEach(given, sourceOf)

/** Writes a result to a file, or to standard output if that is `-`. */
export const writeOutput = (path: string, text: string) =>
  path === "-" ? Output.writeLine(text) : Effect.provide(Folder.writeFile(path, text), StoreHost.layer)

export const toJson = (value: unknown): string => `${JSON.stringify(value, undefined, 2)}\n`

/** A report and a result cannot both be on standard output. */
export const checkOutput = (command: string, output: string, json: boolean) =>
  json && output === "-"
    ? Effect.fail(
        new UsageError({
          message: "--json and --output - would both write to standard output",
          command: ["registry", command]
        })
      )
    : Effect.void

/** The value of a positional argument, or what the step before writes by default. */
export const orDefault = (given: Option.Option<string>, otherwise: string): string =>
  Option.getOrElse(given, () => otherwise)
