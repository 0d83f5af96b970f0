/** Lists the forms that a repository has of its model. */
import * as Effect from "effect/Effect"
import { InvalidModelReference, type ModelDownloadFailed } from "../Errors.js"
import * as Hub from "./hub.js"
import { cortexBranch, type Environment, groupsAt } from "./pull.js"
import { choose, fitsInto, type Group, type Quantisation } from "./quantisation.js"
import { cortexOwner, type ModelReference } from "./reference.js"
import { retrying } from "./retry.js"
import { failed } from "./trouble.js"

/** The most variants of a model of Cortex's library that are looked at: each is a request. */
const maxBranches = 32

const nothing = () => {}

const shown = (
  groups: ReadonlyArray<Group>,
  taken: Group | undefined,
  available: number | undefined
): ReadonlyArray<Quantisation> =>
  groups
    .filter(({ lacks }) => lacks.length === 0)
    .map((group) => ({
      name: group.name ?? group.files[0]?.path ?? "",
      size: group.size,
      files: group.files.map(({ path }) => path),
      fits: fitsInto(group.size, available),
      chosen: group === taken
    }))
    .sort((a, b) => a.size - b.size)

/** The forms that there are, the smallest first. */
export const list = (
  env: Environment,
  reference: ModelReference
): Effect.Effect<ReadonlyArray<Quantisation>, InvalidModelReference | ModelDownloadFailed> => {
  const available = env.availableMemory()
  if (reference.kind === "hub") {
    const { owner, repo, revision } = reference
    return groupsAt(env, `${owner}/${repo}`, revision, nothing).pipe(
      Effect.map(({ groups }) => shown(groups, choose(groups, available), available)),
      Effect.mapError((trouble) => failed(reference.name, trouble))
    )
  }
  if (reference.kind === "cortex") {
    const { repo } = reference
    return Effect.gen(function* () {
      const repository = `${cortexOwner}/${repo}`
      const taken = yield* cortexBranch(env, { kind: "cortex", name: repo, repo }, nothing)
      const all = yield* retrying(Hub.branches(env.hub, repository), env.settings, nothing)
      const variants = all.filter((one) => /gguf/i.test(one)).slice(0, maxBranches)
      const groups = yield* Effect.forEach(
        variants,
        (branch) =>
          Effect.map(groupsAt(env, repository, branch, nothing), ({ groups: [group] }) => ({ branch, group })),
        { concurrency: 4 }
      )
      const named = groups.flatMap(({ branch, group }) => (group === undefined ? [] : [{ ...group, name: branch }]))
      return shown(
        named,
        named.find(({ name }) => name === taken),
        available
      )
    }).pipe(Effect.mapError((trouble) => failed(reference.name, trouble)))
  }
  return Effect.fail(
    new InvalidModelReference({
      reference: reference.name,
      reason: "only a repository of the hub has quantisations to list"
    })
  )
}
