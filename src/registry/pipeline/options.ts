/** What the steps of the pipeline are asked for. */
import * as Schema from "effect/Schema"
import { decoder, type InputOf, milliseconds, optional } from "../../internal/optionSchemas.js"
import { wholeBetween } from "../../internal/units.js"

/**
 * Where servers and records come from: the address of a server, or of a list of them (`https://host/servers.json`); a
 * file, or a folder of files; or a text with the name that it has in messages. Files and texts are family files,
 * `servers.json`, or lists of addresses.
 *
 * @since 0.4.0
 * @category models
 */
export const Source = Schema.Union(
  Schema.NonEmptyTrimmedString,
  Schema.Struct({
    /** What it is called in messages. */
    name: Schema.String,
    /** Its content. */
    text: Schema.String
  })
)

/**
 * @since 0.4.0
 * @category models
 */
export type Source = typeof Source.Type

const folder = optional(Schema.NonEmptyString)
const workers = optional(wholeBetween(1, 1_000))
const flag = optional(Schema.Boolean)

/**
 * How servers are checked.
 *
 * @since 0.4.0
 * @category models
 */
export const CheckOptions = Schema.Struct({
  /** Where the servers come from. Default: the registry of the settings. */
  sources: optional(Schema.Array(Source)),
  /** How many servers are asked at once: 1 to 1,000, default 20. */
  workers,
  /** How long a server may take, in milliseconds; default 5,000. */
  timeout: optional(milliseconds)
})

/**
 * @since 0.4.0
 * @category models
 */
export interface CheckOptions extends InputOf<typeof CheckOptions.fields> {}

/**
 * How models of servers are fetched.
 *
 * @since 0.4.0
 * @category models
 */
export const FetchOptions = Schema.Struct({
  /** Where the servers come from, such as the `endpoints` that `check` found. */
  sources: Schema.Array(Source),
  /** How many servers are asked at once: 1 to 1,000, default 10. */
  workers,
  /** How long a server may take, in milliseconds; default 10,000. */
  timeout: optional(milliseconds)
})

/**
 * @since 0.4.0
 * @category models
 */
export interface FetchOptions extends InputOf<typeof FetchOptions.fields> {}

/**
 * How fetched models become records.
 *
 * @since 0.4.0
 * @category models
 */
export const ResolveOptions = Schema.Struct({
  /** What `fetch` found: a list of `{ source_url, models }`. Entries that are none are rejected one by one. */
  fetched: Schema.Array(Schema.Unknown),
  /** The folder of the registry that they are joined with. Default: the first of the settings. */
  registry: folder,
  /** Whether servers that are not among the fetched keep their records; default `false`. */
  keepMissing: flag
})

/**
 * @since 0.4.0
 * @category models
 */
export interface ResolveOptions extends InputOf<typeof ResolveOptions.fields> {}

const changing = {
  /** The folder of the registry. Default: the first of the settings. */
  registry: folder,
  /** Whether a result that is empty, or less than half of what was there, is applied too; default `false`. */
  force: flag,
  /** Whether nothing is written, and only the difference is reported; default `false`. */
  dryRun: flag
}

/**
 * How records are taken into a registry.
 *
 * @since 0.4.0
 * @category models
 */
export const ApplyOptions = Schema.Struct({
  ...changing,
  /** What `resolve` made: a list of records, or an object with such a list in `models`. */
  records: Schema.Unknown,
  /** Whether the files as they are are copied to a backup first; default `false`. */
  backup: flag
})

/**
 * @since 0.4.0
 * @category models
 */
export interface ApplyOptions extends InputOf<typeof ApplyOptions.fields> {}

/**
 * How a registry is refreshed.
 *
 * @since 0.4.0
 * @category models
 */
export const RefreshOptions = Schema.Struct({
  ...changing,
  /** Where more servers come from. Default: the servers of the settings are asked too. */
  sources: optional(Schema.Array(Source)),
  /** Whether the files as they are are copied to a backup first; default `true`. */
  backup: flag,
  /** Whether servers that do not answer keep their records; default `false`. */
  keepMissing: flag,
  /** How many servers are asked at once: 1 to 1,000, default 20. */
  workers,
  /** How long a server may take, in milliseconds; default 5,000. */
  timeout: optional(milliseconds)
})

/**
 * @since 0.4.0
 * @category models
 */
export interface RefreshOptions extends InputOf<typeof RefreshOptions.fields> {}

/**
 * How servers and records are added to a registry.
 *
 * @since 0.4.0
 * @category models
 */
export const ImportOptions = Schema.Struct({
  ...changing,
  /** Where they come from. No server is asked. */
  sources: Schema.Array(Source),
  /** Whether the files as they are are copied to a backup first; default `false`. */
  backup: flag
})

/**
 * @since 0.4.0
 * @category models
 */
export interface ImportOptions extends InputOf<typeof ImportOptions.fields> {}

/**
 * In which form a registry is exported.
 *
 * @since 0.4.0
 * @category models
 */
export const ExportOptions = Schema.Struct({
  /** The folder of the registry. Default: the first of the settings. */
  registry: folder,
  /**
   * `families`: AI Cortex's files, one for each family of models. `servers`: one `servers.json`. `urls`: an address in
   * each line. Default: `servers`.
   */
  format: optional(Schema.Literal("families", "servers", "urls"))
})

/**
 * @since 0.4.0
 * @category models
 */
export interface ExportOptions extends InputOf<typeof ExportOptions.fields> {}

const BackupsOptions = Schema.Struct({ registry: folder })

/**
 * Which backup of a registry is brought back.
 *
 * @since 0.4.0
 * @category models
 */
export const RestoreOptions = Schema.Struct({
  /** The folder of the registry. Default: the first of the settings. */
  registry: folder,
  /** The backup: when it was made, as `backups` tells. Default: the newest one. */
  backup: optional(Schema.NonEmptyString)
})

/**
 * @since 0.4.0
 * @category models
 */
export interface RestoreOptions extends InputOf<typeof RestoreOptions.fields> {}

/**
 * How many servers `check`, `refresh` and `fetch` ask at once, and how long each may take, in milliseconds. They are
 * those of AI Cortex's pipeline.
 *
 * @since 0.4.0
 * @category constants
 */
export const defaults = {
  check: { workers: 20, timeout: 5_000 },
  fetch: { workers: 10, timeout: 10_000 },
  refresh: { workers: 20, timeout: 5_000 }
} as const

const elsewhere = ["signal", "onEvent"]

export const decodeCheck = decoder(CheckOptions, elsewhere)
export const decodeFetch = decoder(FetchOptions, elsewhere)
export const decodeResolve = decoder(ResolveOptions, elsewhere)
export const decodeApply = decoder(ApplyOptions, elsewhere)
export const decodeRefresh = decoder(RefreshOptions, elsewhere)
export const decodeImport = decoder(ImportOptions, elsewhere)
export const decodeExport = decoder(ExportOptions, elsewhere)
export const decodeBackups = decoder(BackupsOptions, elsewhere)
export const decodeRestore = decoder(RestoreOptions, elsewhere)
