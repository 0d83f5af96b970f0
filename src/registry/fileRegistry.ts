/**
 * A registry in files: a folder of `*.json`, or one file of any form. A file that is broken keeps the content that it had
 * before, so that one that is half written does no harm.
 */
import type { PlatformError } from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { RegistryWarning } from "../Errors.js"
import { RegistrySourceFailed } from "../errors/registry.js"
import * as BoundedFile from "../internal/boundedFile.js"
import * as Catalogue from "./catalogue.js"
import { parsePending, pendingName, stagedName } from "./pendingChange.js"
import * as Document from "./registryDocument.js"
import { type RegistrySource, sizeOf } from "./sourceStatus.js"

/** A larger file is not a list of models, in bytes. */
const maxFileBytes = 32 * 1024 * 1024

/** The files of a source, and what was read of them. */
export interface Files {
  readonly now: () => Catalogue.Catalogue
  /** Reads them again; whether anything is different. */
  readonly read: Effect.Effect<boolean>
  /** The files that could not be used when they were last read. */
  readonly broken: () => ReadonlyArray<RegistryWarning>
  readonly status: () => RegistrySource
}

interface ParsedFile {
  readonly text: string
  readonly catalogue: Catalogue.Catalogue
}

interface Services {
  readonly fs: FileSystem.FileSystem
  readonly path: Path.Path
}

/**
 * The registry at a path. `withServers`: whether its files may name servers. An unreadable folder or file is a warning; so
 * is anything but a regular file (a pipe, a device, a socket), which is not opened, and a file of more than 32 MiB.
 */
export const make = (location: string, withServers: boolean, { fs, path }: Services): Files => {
  /** The last content of each file that could be used. */
  let known = new Map<string, ParsedFile>()
  let catalogue = Catalogue.empty
  let broken: ReadonlyArray<RegistryWarning> = []
  let readAt: number | undefined
  let error: RegistrySourceFailed | undefined

  const parse = (file: string, text: string, alone: boolean): Either.Either<Catalogue.Catalogue, string> =>
    alone
      ? Document.parse({ name: file, path: file }, text)
      : Catalogue.parseFile({ path: file, family: path.basename(file).slice(0, -5).toLowerCase(), text }, withServers)

  const readText = (file: string) => BoundedFile.readText(fs, file, maxFileBytes)
  /** Files whose new content may still wait beside them. */
  let writing: ReadonlySet<string> = new Set()

  const currentText = (file: string) =>
    writing.has(path.basename(file)) ? Effect.orElse(stagedText(file), () => readText(file)) : readText(file)

  const readOne = (file: string, alone: boolean) =>
    Effect.map(Effect.either(currentText(file)), (text): Either.Either<ParsedFile, string> => {
      if (Either.isLeft(text)) return Either.left(`cannot be read: ${text.left.message}`)
      const before = known.get(file)
      return before?.text === text.right
        ? Either.right(before)
        : Either.map(parse(file, text.right, alone), (catalogue) => ({ text: text.right, catalogue }))
    })

  const listed = Effect.gen(function* () {
    const { type } = yield* fs.stat(location)
    if (type !== "Directory") return [location]
    const names = yield* fs.readDirectory(location)
    // What a process that was killed has not brought to its end.
    const pending = names.includes(pendingName)
      ? parsePending(yield* Effect.orElseSucceed(readText(path.join(location, pendingName)), () => ""))
      : undefined
    writing = new Set(pending?.write)
    return [...new Set([...names, ...writing])]
      .filter((name) => name.toLowerCase().endsWith(".json") && pending?.remove.includes(name) !== true)
      .sort()
      .map((name) => path.join(location, name))
  })

  const stagedText = Effect.fnUntraced(function* (file: string) {
    const real = yield* Effect.orElseSucceed(fs.realPath(file), () => file)
    return yield* readText(path.join(path.dirname(real), stagedName(path.basename(real))))
  })

  const unreadable = ({ message }: PlatformError): void => {
    // What was there before may only be on its way: a folder that is replaced, a drive that is mounted again.
    error = new RegistrySourceFailed({
      source: location,
      reason: "unreadable",
      detail: `cannot be read: ${message.replace(/\.$/, "")}`
    })
    broken = [new RegistryWarning({ file: location, reason: `cannot be read: ${message}` })]
  }

  const read = Effect.gen(function* () {
    const files = yield* Effect.either(listed)
    if (Either.isLeft(files)) {
      unreadable(files.left)
      catalogue = { ...catalogue, warnings: broken }
      return false
    }
    const alone = files.right.length === 1 && files.right[0] === location
    const contents = yield* Effect.forEach(files.right, (file) => readOne(file, alone), { concurrency: 8 })
    const next = new Map<string, ParsedFile>()
    const wrong: Array<RegistryWarning> = []
    const warnings: Array<RegistryWarning> = []
    files.right.forEach((file, i) => {
      const content = contents[i]
      if (content === undefined) return
      const before = known.get(file)
      if (Either.isRight(content)) next.set(file, content.right)
      else {
        if (before !== undefined) next.set(file, before)
        const also = before === undefined ? "" : "; what it held before stays in use"
        const warning = new RegistryWarning({ file, reason: `${content.left}${also}` })
        wrong.push(warning)
        warnings.push(warning)
      }
      warnings.push(...(next.get(file)?.catalogue.warnings ?? []))
    })
    const isSame =
      readAt !== undefined && next.size === known.size && [...next].every(([file, one]) => known.get(file) === one)
    known = next
    broken = wrong
    error = undefined
    readAt = yield* Clock.currentTimeMillis
    const whole = isSame ? catalogue : Catalogue.join([...next.values()].map(({ catalogue }) => catalogue))
    const isTold =
      isSame &&
      warnings.length === catalogue.warnings.length &&
      warnings.every((one, i) => catalogue.warnings[i] === one)
    if (!isTold) catalogue = { ...whole, warnings }
    return !isSame
  })

  return {
    now: () => catalogue,
    read,
    broken: () => broken,
    status: () => ({
      source: location,
      kind: "files",
      ...sizeOf(catalogue),
      readAt,
      checkedAt: readAt,
      stale: false,
      error:
        error ??
        (broken[0] === undefined
          ? undefined
          : new RegistrySourceFailed({
              source: broken[0].file,
              reason: broken[0].reason.startsWith("cannot be read") ? "unreadable" : "not-a-registry",
              detail: broken[0].reason
            }))
    })
  }
}

/** The catalogue of a folder that names no servers, read once when it is first needed. */
export const once = (location: string, services: Services): Effect.Effect<Effect.Effect<Catalogue.Catalogue>> => {
  const files = make(location, false, services)
  // Not interrupted with its first user, and not `Effect.cached`, which would keep that interruption for all others.
  return Effect.map(Effect.cachedInvalidateWithTTL(Effect.asVoid(files.read), Duration.infinity), ([read]) =>
    Effect.map(Effect.uninterruptible(read), files.now)
  )
}
