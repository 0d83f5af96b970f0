/** Runs `aicortex config get`, `set`, `unset`, `edit` and `path`. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { decodeText, filePath } from "../../config/file.js"
import { defaultOf } from "../../config/setting.js"
import type { InvalidConfig } from "../../Errors.js"
import * as Editor from "../editor.js"
import { CommandFailed, UsageError } from "../errors.js"
import * as Output from "../output.js"
import { type Content, currentText, editFile, textOf, writeText } from "./editFile.js"
import * as Key from "./key.js"
import { valueNow } from "./run.js"

const keyOf = (command: string, name: string) =>
  Either.mapLeft(Key.parse(name), (message) => new UsageError({ message, command: ["config", command] }))

const tellOverridden = ({ setting: { env = [] } }: Key.Key) =>
  Effect.forEach(
    env.filter((name) => process.env[name]?.trim()),
    (name) => Output.notice(`${name} is set, and overrides the file`),
    { discard: true }
  )

export const get = Effect.fnUntraced(function* (name: string, json: boolean) {
  const key = yield* keyOf("get", name)
  const value = yield* valueNow(key)
  if (value === undefined || value === null) {
    const none = key.members.length === 0 ? defaultOf(key.setting) : undefined
    return yield* new CommandFailed({
      message: `${name} is not set${none === undefined ? "" : `; the default is: ${none}`}`
    })
  }
  yield* json || typeof value === "object" ? Output.writeJson(value) : Output.writeLine(`${String(value)}\n`)
})

/** The content with the first reading of the text that the file may have. */
const changed = (key: Key.Key, content: Content, text: string, file: string): Either.Either<Content, InvalidConfig> => {
  let wrong: InvalidConfig | undefined
  for (const value of Key.valuesOf(key, text)) {
    const next = Key.set(key, content, value)
    const decoded = decodeText(textOf(next), file)
    if (Either.isRight(decoded)) return Either.right(next)
    wrong ??= decoded.left
  }
  return wrong === undefined ? Either.right(content) : Either.left(wrong)
}

export const set = Effect.fnUntraced(function* ([name, text, ...more]: ReadonlyArray<string>) {
  if (name === undefined || text === undefined || more.length > 0) {
    const message = "'config set' takes a KEY and a VALUE; a value with spaces must be quoted"
    return yield* new UsageError({ message, command: ["config", "set"] })
  }
  const key = yield* keyOf("set", name)
  const file = yield* filePath
  let wrong: InvalidConfig | undefined
  yield* editFile(file, (content) => {
    const next = changed(key, content, text, file)
    if (Either.isRight(next)) return next.right
    wrong = next.left
    return undefined
  })
  if (wrong !== undefined) {
    const { field, reason } = wrong as InvalidConfig
    const where = field === key.name ? name : `${name}: ${field}`
    return yield* new UsageError({ message: `${where}: ${reason}`, command: ["config", "set"] })
  }
  // What was given may be a secret.
  yield* Output.write(`Set ${name} in ${file}.\n`)
  yield* tellOverridden(key)
})

export const unset = Effect.fnUntraced(function* (name: string) {
  const key = yield* keyOf("unset", name)
  const file = yield* filePath
  if (!(yield* editFile(file, (content) => Key.unset(key, content)))) {
    return yield* new CommandFailed({ message: `${file} does not set ${name}` })
  }
  yield* Output.write(`Removed ${name} from ${file}.\n`)
  yield* tellOverridden(key)
})

export const path = Effect.flatMap(filePath, (file) => Output.writeLine(`${file}\n`))

const withoutBlank = (text: string): string => (text.trim() === "" ? "{}\n" : text)

export const edit = Effect.gen(function* () {
  const fs = yield* FileSystem.FileSystem
  const paths = yield* Path.Path
  const file = yield* filePath
  const before = yield* currentText(file)
  // The file stays as it is until the new one can be read. The draft may hold keys: only its user may read it.
  const folder = yield* fs.makeTempDirectory({ prefix: "aicortex-" })
  const draft = paths.join(folder, paths.basename(file))
  const shown = before.trim() === "{}" ? "{\n}\n" : before
  yield* fs.writeFileString(draft, shown, { mode: 0o600 })
  const discard = Effect.ignore(fs.remove(folder, { recursive: true }))
  yield* Effect.tryPromise({
    try: () => Editor.open(draft),
    catch: (cause) => new CommandFailed({ message: cause instanceof Error ? cause.message : String(cause) })
  }).pipe(Effect.onError(() => discard))
  const after = withoutBlank(yield* fs.readFileString(draft))
  if (after === shown) {
    yield* discard
    return yield* Output.write(`Nothing was changed in ${file}.\n`)
  }
  yield* Effect.mapError(
    writeText(file, after, before),
    (error) =>
      new CommandFailed({
        message: `${file} was not changed: ${"field" in error ? `${error.field}: ` : ""}${"reason" in error ? error.reason : error.message}; your text is in ${draft}`
      })
  )
  yield* discard
  yield* Output.write(`Saved ${file}.\n`)
})
