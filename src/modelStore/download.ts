/**
 * Downloads one file: in ranges, several at once, and what is there already is not asked for again. The bytes go to
 * their places in a file that ends in `.part`, which gets its name when it was checked.
 */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import { type InsufficientDiskSpace, InvalidModelFile, type ModelStoreUnavailable } from "../Errors.js"
import type { Service as Transport } from "../Transport.js"
import { unavailable } from "./catalogue.js"
import { concat } from "./files.js"
import { checkMagic } from "./gguf.js"
import type { Host } from "./host.js"
import {
  doneBytes,
  type Identity,
  journalOf,
  note,
  noteComplete,
  partOf,
  readJournal,
  writeJournal
} from "./journal.js"
import { missing, type Range } from "./ranges.js"
import { type Answer, get, type Token } from "./request.js"
import { pause, type RetryPolicy } from "./retry.js"
import { Trouble } from "./trouble.js"
import { sync, verify } from "./verify.js"

/** A file to be downloaded. */
export interface Source {
  /** The name that it is kept under. */
  readonly file: string
  readonly url: string
  readonly token?: Token | undefined
  /** As the hub says. */
  readonly size?: number | undefined
  readonly sha256?: string | undefined
}

export interface DownloadSettings extends RetryPolicy {
  /** How many ranges at once. */
  readonly parallel: number
  /** How long a range is, in bytes. */
  readonly rangeBytes: number
  readonly stallTimeout: number
}

/** Progress reports. Called often: the display chooses what to show. */
export interface DownloadListener {
  /** Fails if there is no space for so many bytes, of a file whose size only its server reports. */
  readonly room: (needed: number) => Effect.Effect<void, InsufficientDiskSpace>
  readonly progress: (file: string, completed: number, total: number | undefined) => void
  readonly verifying: (file: string, completed: number, total: number) => void
  readonly retry: (file: string, trouble: Trouble, wait: number) => void
}

/** What became of it. */
export interface Downloaded {
  readonly file: string
  readonly size: number
  readonly sha256?: string | undefined
}

/** How often a file may change while it is downloaded. */
const maxChanges = 3

/** How much is written at once at most, in bytes. */
const maxBlock = 1024 * 1024

/** The file has changed on the server: the download starts over. */
class Changed extends Trouble {}

const sameFile = (one: Identity, other: Identity): boolean =>
  one.sha256 !== undefined && other.sha256 !== undefined
    ? one.sha256 === other.sha256 && one.size === other.size
    : one.url === other.url && (one.size === undefined || other.size === undefined || one.size === other.size)

const contentRange = (answer: Answer): (Range & { readonly size: number }) | undefined => {
  const match = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(answer.header("content-range") ?? "")
  return match === null ? undefined : { start: Number(match[1]), end: Number(match[2]) + 1, size: Number(match[3]) }
}

const contentLength = (answer: Answer): number | undefined => {
  const value = answer.header("content-length")
  return value !== undefined && /^\d+$/.test(value) ? Number(value) : undefined
}

/** Only a strong tag says that the bytes are the same; the time of the last change is better than nothing. */
const validatorOf = (answer: Answer): string | undefined => {
  const tag = answer.header("etag")
  return tag?.startsWith('"') ? tag : answer.header("last-modified")
}

/** Downloads a file into a folder, and checks it. The caller holds the lock of the folder. */
export const download = Effect.fnUntraced(function* (
  { host, transport }: { readonly host: Host; readonly transport: Transport },
  path: (file: string) => string,
  source: Source,
  settings: DownloadSettings,
  told: DownloadListener
) {
  const fs = yield* FileSystem.FileSystem
  const { file, url } = source
  const target = path(file)
  const part = partOf(target)
  const hash = host.sha256()
  hash.update(new TextEncoder().encode(url))
  const address = hash.digest()
  const wanted = (size: number | undefined, etag?: string): Identity => ({
    url: address,
    ...(size === undefined ? {} : { size }),
    ...(source.sha256 === undefined ? {} : { sha256: source.sha256 }),
    ...(etag === undefined ? {} : { etag })
  })

  const drop = Effect.zipRight(fs.remove(part, { force: true }), fs.remove(journalOf(target), { force: true })).pipe(
    Effect.mapError(unavailable)
  )

  const before = yield* Effect.mapError(readJournal(target), unavailable)
  const known = before !== undefined && sameFile(before.identity, wanted(source.size)) ? before : undefined
  if (known?.complete === true && known.identity.size !== undefined) {
    const stat = yield* Effect.option(fs.stat(target))
    if (stat._tag === "Some" && Number(stat.value.size) === known.identity.size) {
      return { file, size: known.identity.size, sha256: known.identity.sha256 } satisfies Downloaded
    }
  }
  // What another program put in its place would be written through to.
  const link = yield* Effect.option(fs.readLink(part))
  if (link._tag === "Some" || known === undefined || known.complete) yield* drop

  /** One attempt at a range, or at the whole file where `range` is none. It is given up when the scope closes. */
  const open = (range: Range | undefined, etag: string | undefined) =>
    get(transport, {
      url,
      token: source.token,
      stallTimeout: settings.stallTimeout,
      headers:
        range === undefined
          ? {}
          : {
              range: `bytes=${range.start}-${range.end - 1}`,
              ...(etag === undefined ? {} : { "if-range": etag })
            }
    }).pipe(
      // It has become shorter than what is there already.
      Effect.mapError((trouble) =>
        trouble.status === 416
          ? new Changed({ reason: "changed", detail: "the file became shorter", passing: false })
          : trouble
      )
    )

  let etag = known?.complete === true ? undefined : known?.identity.etag
  let completed = 0
  let total = source.size ?? (known?.complete === true ? undefined : known?.identity.size)

  const writeOut = (output: FileSystem.File, offset: number, bytes: Uint8Array) =>
    Effect.gen(function* () {
      if (offset === 0) {
        const wrong = checkMagic(bytes)
        if (wrong !== undefined) return yield* new InvalidModelFile({ file: new URL(url).pathname, reason: wrong })
      }
      yield* output.seek(FileSystem.Size(offset), "start")
      yield* output.writeAll(bytes)
      // Without a checksum nothing else would show that a power failure lost some of it.
      if (source.sha256 === undefined) yield* output.sync
      yield* note(target, offset, bytes.length)
    }).pipe(Effect.mapError((error) => (error._tag === "InvalidModelFile" ? error : unavailable(error))))

  /** Copies a body to its place, up to `end`. Gives where it ended; what came before a failure is written too. */
  const copy = (answer: Answer, start: number, end: number | undefined) => {
    const block = Math.max(1, Math.min(maxBlock, Math.floor(settings.rangeBytes / (4 * settings.parallel))))
    let at = start
    let held: Array<Uint8Array> = []
    let size = 0
    let tooMuch = false
    return Effect.scoped(
      Effect.gen(function* () {
        const output = yield* Effect.mapError(fs.open(part, { flag: "r+" }), unavailable)
        const flush = Effect.suspend(() => {
          if (size === 0) return Effect.void
          const bytes = concat(held)
          const offset = at - size
          held = []
          size = 0
          return writeOut(output, offset, bytes)
        }).pipe(Effect.uninterruptible)
        const loop = Effect.gen(function* () {
          while (end === undefined || at < end) {
            const parts = yield* answer.body.take
            if (parts === undefined) return
            for (const one of parts) {
              const fits = end === undefined ? one : one.subarray(0, Math.max(0, end - at))
              if (fits.length < one.length) tooMuch = true
              held.push(fits)
              size += fits.length
              at += fits.length
              completed += fits.length
            }
            // The first bytes are looked at before much else is done.
            if (size >= block || (at - size === 0 && size >= 8)) yield* flush
            told.progress(file, completed, total)
          }
        })
        const cut = yield* loop.pipe(
          Effect.as(undefined),
          Effect.catchTag("Trouble", (trouble) => Effect.succeed(trouble)),
          Effect.onInterrupt(() => Effect.ignore(flush))
        )
        yield* flush
        return { at, cut, tooMuch }
      })
    )
  }

  const mismatch = (detail: string) => new Trouble({ reason: "size-mismatch", detail, passing: false })

  /** Learns from an answer what the file is; fails where it is another one than before. */
  const learn = Effect.fnUntraced(function* (answer: Answer, size: number | undefined) {
    // A checksum says more, and the hosts that have copies of a file may tag them each in its way.
    const tag = source.sha256 === undefined ? validatorOf(answer) : undefined
    const linked = answer.linked.size
    if (source.size !== undefined && size !== undefined && size !== source.size) {
      return yield* mismatch(`${answer.host} says that it has ${size} bytes, and the hub that it has ${source.size}`)
    }
    if (linked !== undefined && size !== undefined && linked !== size) {
      return yield* mismatch(`${answer.host} says that it has ${size} bytes, and the hub that it has ${linked}`)
    }
    if (source.sha256 === undefined && answer.linked.sha256 !== undefined) linkedHash = answer.linked.sha256
    const another =
      (total !== undefined && size !== undefined && size !== total) ||
      (etag !== undefined && tag !== undefined && tag !== etag)
    if (another) {
      etag = undefined
      total = source.size
      return yield* new Changed({ reason: "changed", detail: `the file on ${answer.host} changed`, passing: false })
    }
    etag ??= tag
    total ??= size
  })
  let linkedHash: string | undefined

  const ready = (there: ReadonlyArray<Range>) =>
    Effect.mapError(writeJournal(target, { identity: wanted(total, etag), there }), unavailable)

  /** A range until all of it is there, over as many answers as it takes. */
  const fetchRange = (range: Range, first?: Answer) =>
    Effect.gen(function* () {
      let at = range.start
      let failures = 0
      let given = first
      while (at < range.end) {
        const started = at
        const outcome = yield* Effect.scoped(
          Effect.gen(function* () {
            const answer = given ?? (yield* open({ start: at, end: range.end }, etag))
            if (given === undefined) {
              const got = contentRange(answer)
              yield* learn(answer, answer.status === 206 ? got?.size : contentLength(answer))
              if (answer.status !== 206 || got?.start !== at) {
                const detail = `${answer.host} answers with other bytes than it was asked for`
                return yield* new Trouble({ reason: "invalid-response", detail, passing: true })
              }
            }
            const end = Math.min(range.end, contentRange(answer)?.end ?? range.end)
            const { at: reached, cut } = yield* copy(answer, at, end)
            at = reached
            if (cut !== undefined) return yield* cut
            if (at < end || at === started) {
              const detail = `${answer.host} sent ${at - started} of ${end - started} bytes`
              return yield* new Trouble({ reason: "network", detail, passing: true })
            }
          })
        ).pipe(
          Effect.as(undefined),
          Effect.catchTag("Trouble", (trouble) => Effect.succeed(trouble))
        )
        given = undefined
        if (outcome === undefined) continue
        if (outcome instanceof Changed) return yield* outcome
        failures = at > started ? 0 : failures + 1
        const wait = yield* pause(outcome, Math.max(1, failures), settings)
        told.retry(file, outcome, wait)
        yield* Effect.sleep(wait)
      }
    })

  /** The whole file in one response, from a server without ranges: it can only start over. */
  const fetchWhole = (answer: Answer) =>
    Effect.gen(function* () {
      completed = 0
      yield* ready([])
      const size = contentLength(answer)
      const { at, cut, tooMuch } = yield* copy(answer, 0, total)
      if (cut !== undefined) return yield* cut
      if (tooMuch) return yield* mismatch(`${answer.host} sent more than the ${total} bytes that it has`)
      if ((total ?? size ?? at) !== at) {
        const detail = `${answer.host} sent ${at} of ${total ?? size} bytes`
        return yield* new Trouble({ reason: "network", detail, passing: true })
      }
      total = at
    })

  const attempt = Effect.scoped(
    Effect.gen(function* () {
      const journal = yield* Effect.mapError(readJournal(target), unavailable)
      const there = journal !== undefined && !journal.complete ? journal.there : []
      completed = doneBytes(journal)
      yield* Effect.mapError(fs.open(part, { flag: "a", mode: 0o600 }), unavailable)
      const pieces = total === undefined ? undefined : missing(total, there, settings.rangeBytes)
      if (pieces?.length === 0 && total !== undefined && total > 0) return
      const first = pieces?.[0] ?? { start: 0, end: settings.rangeBytes }
      const answer = yield* open(first, etag)
      const got = contentRange(answer)
      if (answer.status === 206 && got === undefined) {
        const detail = `${answer.host} does not say which bytes it sends`
        return yield* new Trouble({ reason: "invalid-response", detail, passing: false })
      }
      yield* learn(answer, got === undefined ? contentLength(answer) : got.size)
      if (source.size === undefined && total !== undefined) yield* told.room(total - completed)
      if (got === undefined || total === undefined) return yield* fetchWhole(answer)
      if (got.start !== first.start) {
        const detail = `${answer.host} answers with other bytes than it was asked for`
        return yield* new Trouble({ reason: "invalid-response", detail, passing: true })
      }
      yield* ready(there)
      told.progress(file, completed, total)
      const [head, ...queue] = missing(total, there, settings.rangeBytes)
      if (head === undefined) return
      const worker = (mine: Range | undefined, answer?: Answer): Effect.Effect<void, Failure, FileSystem.FileSystem> =>
        Effect.gen(function* () {
          let next = mine ?? queue.shift()
          let given = answer
          while (next !== undefined) {
            yield* fetchRange(next, given)
            given = undefined
            next = queue.shift()
          }
        })
      const others = Array.from({ length: Math.min(settings.parallel - 1, queue.length) }, () => worker(undefined))
      yield* Effect.all([worker(head, answer), ...others], { concurrency: "unbounded", discard: true })
    })
  )

  /** Attempts, until one comes to its end. */
  const run = Effect.gen(function* () {
    let failures = 0
    let changes = 0
    let most = completed
    while (true) {
      const trouble = yield* attempt.pipe(
        Effect.as(undefined),
        Effect.catchTag("Trouble", (trouble) => Effect.succeed(trouble))
      )
      if (trouble === undefined) return
      if (trouble instanceof Changed) {
        if (++changes > maxChanges) return yield* trouble
        yield* drop
        told.retry(file, trouble, 0)
        continue
      }
      failures = completed > most ? 0 : failures + 1
      most = Math.max(most, completed)
      const wait = yield* pause(trouble, Math.max(1, failures), settings)
      told.retry(file, trouble, wait)
      yield* Effect.sleep(wait)
    }
  })

  const wrong = (error: Failure) =>
    error._tag === "InvalidModelFile" || (error._tag === "Trouble" && error.reason.endsWith("-mismatch"))
      ? drop
      : Effect.void

  return yield* Effect.gen(function* () {
    yield* run
    const size = total ?? completed
    const expected = source.sha256 ?? linkedHash
    yield* verify(host, part, size, expected, (done) => told.verifying(file, done, size))
    yield* Effect.mapError(
      Effect.gen(function* () {
        yield* fs.rename(part, target)
        yield* writeJournal(target, { identity: { ...wanted(size, etag) }, there: [{ start: 0, end: size }] })
        yield* noteComplete(target)
      }),
      unavailable
    ).pipe(Effect.uninterruptible)
    yield* sync(target)
    return { file, size, sha256: expected } satisfies Downloaded
  }).pipe(Effect.tapError(wrong))
})

type Failure = Trouble | InvalidModelFile | ModelStoreUnavailable | InsufficientDiskSpace
