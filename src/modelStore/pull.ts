/** Gets a model: finds out which files it has, downloads what is missing of them, checks them, and writes it down. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import {
  InsufficientDiskSpace,
  type InvalidModelFile,
  InvalidModelReference,
  type ModelDownloadFailed,
  type ModelNameTaken,
  ModelStoreUnavailable
} from "../Errors.js"
import type { Service as Transport } from "../Transport.js"
import type * as Catalogue from "./catalogue.js"
import { unavailable } from "./catalogue.js"
import { type Downloaded, type DownloadSettings, download, type Source } from "./download.js"
import type { PullEvent } from "./events.js"
import { inspect, joined } from "./files.js"
import type { Host, Owner } from "./host.js"
import * as Hub from "./hub.js"
import { doneBytes, journalOf, readJournal } from "./journal.js"
import * as Lock from "./lock.js"
import { keptName, maxParts, splitName, splitOf } from "./names.js"
import { choose, type Group, groupsOf } from "./quantisation.js"
import {
  type CortexReference,
  cortexOwner,
  type HubReference,
  hubName,
  type ModelReference,
  type UrlReference
} from "./reference.js"
import type { Token } from "./request.js"
import { retrying } from "./retry.js"
import { failed, Trouble } from "./trouble.js"

/**
 * What getting a model can fail with.
 *
 * @since 0.3.0
 * @category errors
 */
export type PullError =
  | InvalidModelReference
  | InvalidModelFile
  | ModelNameTaken
  | ModelDownloadFailed
  | ModelStoreUnavailable
  | InsufficientDiskSpace

/** What is to be downloaded. */
interface Plan {
  readonly name: string
  readonly source: string
  readonly revision?: string | undefined
  readonly files: readonly [Source, ...ReadonlyArray<Source>]
}

export interface Environment {
  readonly host: Host
  readonly transport: Transport
  readonly hub: Hub.Hub
  readonly settings: DownloadSettings
  readonly availableMemory: () => number | undefined
}

type Emit = (event: PullEvent) => void

const notFound = (detail: string) => new Trouble({ reason: "not-found", detail, passing: false })

/** Only for the hub's own host: other hosts get no token. */
const tokenFor = (token: Token | undefined, url: string): Token | undefined =>
  token !== undefined && new URL(url).origin === token.origin ? token : undefined

/** Of the models in a repository the one that is meant. */
const chosen = (
  groups: ReadonlyArray<Group>,
  { file, quantisation }: Pick<HubReference, "file" | "quantisation">,
  repository: string,
  available: number | undefined
): Either.Either<Group, Trouble> => {
  const named = groups.map(({ name, files }) => name ?? files[0]?.path ?? "").filter((name) => name !== "")
  const there = named.length === 0 ? "it has no GGUF files" : `it has ${[...new Set(named)].slice(0, 30).join(", ")}`
  const matches =
    file !== undefined
      ? groups.filter(({ files }) => files.some(({ path }) => path === file))
      : quantisation !== undefined
        ? groups.filter(({ name }) => name === quantisation)
        : groups
  const found = choose(matches, available) ?? matches[0]
  if (found === undefined) {
    const wanted = file ?? quantisation
    return Either.left(notFound(`${repository} has no ${wanted ?? "model"}: ${there}`))
  }
  return found.lacks.length === 0
    ? Either.right(found)
    : Either.left(notFound(`${repository} has not all parts of it: ${found.lacks.slice(0, 10).join(", ")} are missing`))
}

/** The models in a repository of the hub. */
export const groupsAt = Effect.fnUntraced(function* (
  env: Environment,
  repository: string,
  revision: string,
  emit: (trouble: Trouble, wait: number) => void
) {
  const listing = yield* retrying(Hub.list(env.hub, repository, revision), env.settings, emit)
  return { ...listing, groups: groupsOf(listing.files) }
})

const hubPlan = (
  env: Environment,
  reference: Pick<HubReference, "file" | "quantisation" | "revision"> & { readonly repository: string },
  nameOf: (group: Group) => string,
  emit: (trouble: Trouble, wait: number) => void
) =>
  Effect.gen(function* () {
    const { repository, revision } = reference
    const { commit, groups } = yield* groupsAt(env, repository, revision, emit)
    const group = yield* chosen(groups, reference, repository, env.availableMemory())
    const files = group.files.map(({ path, sha256, size }): Source => {
      const url = Hub.fileUrl(env.hub, repository, commit, path)
      return { file: keptName(path), url, token: env.hub.token, size, sha256 }
    })
    const [first, ...others] = files
    if (first === undefined) return yield* notFound(`${repository} has no model`)
    const source = `hf:${repository}/${group.files[0]?.path ?? ""}`
    return { name: nameOf(group), source, revision: commit, files: [first, ...others] } satisfies Plan
  })

/** The branch of Cortex's library that is meant. */
export const cortexBranch = (
  env: Environment,
  { branch, repo }: CortexReference,
  emit: (trouble: Trouble, wait: number) => void
) =>
  Effect.gen(function* () {
    if (branch !== undefined) return branch
    const repository = `${cortexOwner}/${repo}`
    const named = yield* retrying(Hub.defaultBranch(env.hub, repository), env.settings, emit)
    if (named !== undefined) return named
    const all = (yield* retrying(Hub.branches(env.hub, repository), env.settings, emit)).filter((one) =>
      /gguf/i.test(one)
    )
    const [first] = all
    if (first === undefined) return yield* notFound(`${repository} has no variant with GGUF files`)
    return all.find((one) => /q4-km$/i.test(one)) ?? first
  })

const urlPlan = ({ name, url }: UrlReference, token: Token | undefined): Plan => {
  const plain = new URL(url)
  // What stands in a query may be a secret.
  plain.search = ""
  const last = decodeURIComponent(plain.pathname.split("/").at(-1) ?? "")
  const split = splitOf(last)
  const all =
    split === undefined || split.count < 1 || split.count > maxParts
      ? [last]
      : Array.from({ length: split.count }, (_, i) => splitName(split.base, i + 1, split.count))
  const files = all.map((one): Source => {
    const each = new URL(url)
    each.pathname = each.pathname.replace(/[^/]*$/, encodeURIComponent(one))
    return { file: keptName(one), url: each.href, token: tokenFor(token, each.href) }
  })
  const [first = { file: keptName(last), url }, ...others] = files
  return { name, source: plain.href, files: [first, ...others] }
}

/** What is to be downloaded for a name. */
const planOf = (
  env: Environment,
  reference: ModelReference,
  emit: (trouble: Trouble, wait: number) => void
): Effect.Effect<Plan, Trouble | InvalidModelReference> => {
  switch (reference.kind) {
    case "hub": {
      const { file, owner, repo } = reference
      const nameOf = ({ name }: Group) => (file === undefined ? hubName(owner, repo, name) : reference.name)
      return hubPlan(env, { ...reference, repository: `${owner}/${repo}` }, nameOf, emit)
    }
    case "cortex":
      return Effect.flatMap(cortexBranch(env, reference, emit), (branch) => {
        const repository = `${cortexOwner}/${reference.repo}`
        return hubPlan(env, { repository, revision: branch }, () => `${reference.repo}:${branch}`, emit)
      })
    case "url":
      return Effect.succeed(urlPlan(reference, env.hub.token))
    case "file":
    case "ollama":
      return Effect.fail(
        new InvalidModelReference({
          reference: reference.name,
          reason:
            reference.kind === "file"
              ? "a file of this machine is imported, and not downloaded"
              : "it is a model of Ollama's library, which an Ollama server downloads: `aicortex pull` without a local form, or name a repository of the hub, owner/repo"
        })
      )
  }
}

/** What there is of the files of a plan already, in bytes; and of all of them, where that is known. */
const amounts = (folder: string, { files }: Plan) =>
  Effect.gen(function* () {
    const path = yield* Path.Path
    let completed = 0
    let total: number | undefined = 0
    for (const { file, size } of files) {
      const journal = yield* Effect.mapError(readJournal(path.join(folder, file)), unavailable)
      completed += doneBytes(journal)
      const whole: number | undefined = size ?? journal?.identity.size
      total = total === undefined || whole === undefined ? undefined : total + whole
    }
    return total === undefined ? { completed } : { completed, total }
  })

const sameFiles = (stored: Catalogue.StoredModel, { files, revision }: Plan): boolean =>
  stored.problem === undefined &&
  stored.kept &&
  stored.files.length === files.length &&
  (revision === undefined ||
    files.every(({ sha256, size }, i) => {
      const there = stored.files[i]
      return there?.size === size && (sha256 === undefined ? stored.revision === revision : there?.sha256 === sha256)
    }))

/** Downloads a model. Events are handed out as they happen; the last one is `done`. */
export const pull = Effect.fnUntraced(function* (
  env: Environment,
  catalogue: Effect.Effect.Success<ReturnType<typeof Catalogue.make>>,
  reference: ModelReference,
  name: string | undefined,
  emit: Emit
): Effect.fn.Return<void, PullError, FileSystem.FileSystem | Path.Path> {
  const shown = name ?? reference.name
  const path = yield* Path.Path
  const fs = yield* FileSystem.FileSystem
  const told = (trouble: Trouble, wait: number) =>
    emit({ type: "retry", model: shown, reason: trouble.reason, detail: trouble.detail, wait })
  const typed = <A, E, R>(effect: Effect.Effect<A, E | Trouble, R>) =>
    Effect.mapError(effect, (error) =>
      error instanceof Trouble ? failed(shown, error) : (error as Exclude<E, Trouble>)
    )

  const found = yield* typed(planOf(env, reference, told))
  const plan: Plan = { ...found, name: name ?? found.name }
  const model = plan.name
  const present = Effect.map(catalogue.free(model, plan.source), (stored) =>
    stored !== undefined && sameFiles(stored, plan) ? stored : undefined
  )
  const before = yield* present
  if (before !== undefined) return emit({ type: "done", model: before, fresh: false })
  const folder = yield* catalogue.prepare(model)
  const at = (file: string) => path.join(folder, file)

  yield* Effect.scoped(
    Effect.gen(function* () {
      let waited = false
      const lock = Lock.acquire(env.host, folder, ({ host, pid }: Owner) =>
        Effect.map(amounts(folder, plan), (amount) => {
          waited = true
          emit({ type: "waiting", model, host, pid, ...amount })
        })
      )
      yield* Effect.mapError(lock, unavailable)
      if (waited) {
        const meanwhile = yield* present
        if (meanwhile !== undefined) return emit({ type: "done", model: meanwhile, fresh: false })
      }
      const amount = yield* amounts(folder, plan)
      emit({ type: "resolved", model, source: plan.source, files: plan.files.length, ...amount })
      const room = Effect.fnUntraced(function* (needed: number) {
        const available = yield* env.host.freeBytes(folder)
        if (available !== undefined && needed > available) {
          return yield* new InsufficientDiskSpace({ model, folder, needed, available })
        }
      })
      if (amount.total !== undefined) yield* room(amount.total - amount.completed)

      const progress = new Map<string, readonly [completed: number, total: number | undefined]>()
      const sum = () => {
        let completed = 0
        let total: number | undefined = 0
        for (const { file, size } of plan.files) {
          const [done, whole = size] = progress.get(file) ?? [0, size]
          completed += done
          total = total === undefined || whole === undefined ? undefined : total + whole
        }
        return total === undefined ? { completed } : { completed, total }
      }
      for (const { file, size } of plan.files) {
        progress.set(file, [doneBytes(yield* Effect.mapError(readJournal(at(file)), unavailable)), size])
      }
      const downloaded: Array<Downloaded> = []
      for (const source of plan.files) {
        const one = yield* typed(
          download(env, at, source, env.settings, {
            room,
            progress: (file, completed, total) => {
              progress.set(file, [completed, total])
              emit({ type: "progress", model, ...sum() })
            },
            verifying: (_, completed, total) => emit({ type: "verifying", model, completed, total }),
            retry: (_, trouble, wait) => told(trouble, wait)
          })
        )
        downloaded.push(one)
        progress.set(source.file, [one.size, one.size])
      }
      const inspected = yield* Effect.forEach(downloaded, ({ file }) =>
        // A file that is no model is of no use: it is not kept, so that the next attempt does not take it for complete.
        Effect.tapError(inspect(at(file)), () =>
          Effect.ignore(Effect.zipRight(fs.remove(at(file)), fs.remove(journalOf(at(file)))))
        )
      )
      const [first, ...others] = downloaded
      if (first === undefined) return yield* new ModelStoreUnavailable({ reason: "a model has no files" })
      const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
      const { name: _, files: __, ...origin } = plan
      const stored = yield* catalogue.add(
        { ...origin, name: model, kept: true, metadata: joined(inspected), files: [first, ...others] },
        now
      )
      yield* catalogue.tidy(
        folder,
        downloaded.map(({ file }) => file)
      )
      emit({ type: "done", model: stored, fresh: true })
    })
  )
})

/** The interval of progress events, in milliseconds. */
const tellEvery = 100

/** Leaves out progress that comes too soon after other progress. */
export const sparing = (emit: Emit, now: () => number): Emit => {
  let last = Number.NEGATIVE_INFINITY
  return (event) => {
    if (event.type === "progress" || event.type === "verifying") {
      const time = now()
      const whole = event.completed === event.total
      if (!whole && time - last < tellEvery) return
      last = time
    }
    emit(event)
  }
}
