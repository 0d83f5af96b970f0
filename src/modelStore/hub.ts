/** The data of a hub about a repository, over the API of Hugging Face's. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import type { Service as Transport } from "../Transport.js"
import type { RemoteFile } from "./quantisation.js"
import { type Request, type Token, text } from "./request.js"
import { Trouble } from "./trouble.js"

/** The longest list that is read, in bytes. */
const maxListBytes = 32 * 1024 * 1024

const Sibling = Schema.Struct({
  rfilename: Schema.String,
  size: Schema.optional(Schema.NullOr(Schema.Number)),
  lfs: Schema.optional(
    Schema.NullOr(Schema.Struct({ sha256: Schema.optional(Schema.String), size: Schema.optional(Schema.Number) }))
  )
})

const Info = Schema.parseJson(
  Schema.Struct({ sha: Schema.optional(Schema.String), siblings: Schema.optional(Schema.Array(Sibling)) })
)

const Refs = Schema.parseJson(Schema.Struct({ branches: Schema.Array(Schema.Struct({ name: Schema.String })) }))

/** A hub: its address, without a slash at its end, and how it is asked. */
export interface Hub {
  readonly transport: Transport
  readonly endpoint: string
  readonly token: Token | undefined
  readonly stallTimeout: number
}

/** The files of a repository at a commit. */
export interface Listing {
  readonly commit: string
  readonly files: ReadonlyArray<RemoteFile>
}

const encodePath = (path: string): string => path.split("/").map(encodeURIComponent).join("/")

const request = ({ endpoint, stallTimeout, token }: Hub, path: string): Request => ({
  url: `${endpoint}/${path}`,
  token,
  stallTimeout,
  headers: { accept: "application/json" }
})

const unreadable = (hub: Hub) =>
  new Trouble({
    reason: "invalid-response",
    detail: `${new URL(hub.endpoint).host} does not answer as a hub does: check HF_ENDPOINT`,
    passing: false
  })

const isSize = (value: unknown): value is number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0

/** The files that a repository has. */
export const list = (hub: Hub, repository: string, revision: string): Effect.Effect<Listing, Trouble> =>
  Effect.flatMap(
    text(
      hub.transport,
      request(hub, `api/models/${encodePath(repository)}/revision/${encodeURIComponent(revision)}?blobs=true`),
      maxListBytes
    ),
    (body) => {
      const info = Schema.decodeUnknownEither(Info)(body)
      if (Either.isLeft(info)) return Effect.fail(unreadable(hub))
      const { sha = revision, siblings = [] } = info.right
      if (!/^[A-Za-z0-9._/-]{1,128}$/.test(sha)) return Effect.fail(unreadable(hub))
      const files = siblings.flatMap(({ lfs, rfilename, size }): ReadonlyArray<RemoteFile> => {
        const bytes = lfs?.size ?? size
        const sha256 = lfs?.sha256?.toLowerCase()
        if (!isSize(bytes)) return []
        return [{ path: rfilename, size: bytes, sha256: /^[0-9a-f]{64}$/.test(sha256 ?? "") ? sha256 : undefined }]
      })
      return Effect.succeed({ commit: sha, files })
    }
  )

/** The branches of a repository. */
export const branches = (hub: Hub, repository: string): Effect.Effect<ReadonlyArray<string>, Trouble> =>
  Effect.flatMap(
    text(hub.transport, request(hub, `api/models/${encodePath(repository)}/refs`), maxListBytes),
    (body) => {
      const refs = Schema.decodeUnknownEither(Refs)(body)
      return Either.isLeft(refs)
        ? Effect.fail(unreadable(hub))
        : Effect.succeed(refs.right.branches.map(({ name }) => name))
    }
  )

/** Where a file of a repository is. */
export const fileUrl = ({ endpoint }: Hub, repository: string, revision: string, path: string): string =>
  `${endpoint}/${encodePath(repository)}/resolve/${encodeURIComponent(revision)}/${encodePath(path)}`

/** The branch that a repository of Cortex's library calls its default: it is named in a small file. */
export const defaultBranch = (hub: Hub, repository: string): Effect.Effect<string | undefined, Trouble> =>
  text(hub.transport, { ...request(hub, ""), url: fileUrl(hub, repository, "main", "metadata.yml") }, 65_536).pipe(
    Effect.map((yaml) => /^default:\s*["']?([A-Za-z0-9._-]+)/m.exec(yaml)?.[1]),
    Effect.catchIf(
      ({ reason }) => reason === "not-found",
      () => Effect.succeed(undefined)
    )
  )
