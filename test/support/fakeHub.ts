/**
 * A hub on loopback, as Hugging Face's serves files: the API lists a repository, `resolve` redirects to another host, which
 * serves ranges. It can cut, throttle, lie and refuse, and counts what it sends.
 */
import { createHash } from "node:crypto"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"

/** A file of a repository, or of the web server at `/files/NAME`. */
export interface HubFile {
  bytes: Buffer
  /** What the list says, where it lies. */
  listedSha256?: string | undefined
  listedSize?: number | undefined
  /** The tag of the host that serves it; none: it says none. */
  etag?: string | undefined
}

export interface HubRequest {
  readonly server: "hub" | "files"
  readonly path: string
  readonly range: string | undefined
  readonly authorization: string | undefined
  readonly ifRange: string | undefined
  /** How many bytes of the body were sent. */
  sent: number
}

export interface Behaviour {
  /** After how many bytes of a body its connection breaks; called for each answer. */
  cutAfter?: (request: HubRequest) => number | undefined
  /** An answer in place of the right one: a status, with headers. */
  refuse?: (request: HubRequest) => { status: number; headers?: Record<string, string> } | undefined
  /** Whether ranges are ignored. */
  ignoreRange?: boolean
  /** How many bytes are sent at once, with a turn of the event loop between: 0 means all. */
  piece?: number
  /** How long it waits between two pieces, in milliseconds. */
  pace?: number
  /** Called after each piece. */
  onSent?: () => void
  /** Where `resolve` redirects to; default: the host with the files. */
  redirect?: (file: string) => string
  /** Whether what the redirect says of the file is left out. */
  plainRedirect?: boolean
  /** Sends the headers, and then nothing. */
  stall?: (request: HubRequest) => boolean
  /** What `content-range` says that a file's size is. */
  claimedSize?: number
  /** What a token must be; without the right one there is 401. */
  token?: string
  /** Whether the terms of the repository were not accepted. */
  gated?: boolean
  /** Called when a body was begun. */
  onBody?: (request: HubRequest) => void
}

const sha256 = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex")

type End = (status: number, headers?: Record<string, string>, body?: string) => undefined

export class FakeHub {
  /** By `owner/repo`, by branch, by path. */
  readonly repositories: Record<string, Record<string, Record<string, HubFile>>> = {}
  /** Served as they are, at `/files/NAME`. */
  readonly files: Record<string, HubFile> = {}
  readonly requests: Array<HubRequest> = []
  behaviour: Behaviour = {}
  commit = "c0ffee0000000000000000000000000000000000"
  private readonly counts = new Map<HubFile, Uint16Array>()
  private readonly servers: Array<Server> = []
  url = ""
  filesUrl = ""

  static async start(): Promise<FakeHub> {
    const hub = new FakeHub()
    hub.url = await hub.listen("hub")
    hub.filesUrl = await hub.listen("files")
    return hub
  }

  private async listen(name: "hub" | "files"): Promise<string> {
    const server = createServer((request, response) => this.answer(name, request, response))
    this.servers.push(server)
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  }

  async stop(): Promise<void> {
    for (const server of this.servers) {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  }

  /** Puts a file into a repository. */
  add(repository: string, path: string, bytes: Buffer, branch = "main"): HubFile {
    const file: HubFile = { bytes }
    const branches = this.repositories[repository] ?? {}
    this.repositories[repository] = branches
    branches[branch] = { ...branches[branch], [path]: file }
    return file
  }

  /** How many bytes of a file were sent more than once. */
  doubled(file: HubFile): number {
    return (this.counts.get(file) ?? new Uint16Array()).reduce((sum, count) => sum + Math.max(0, count - 1), 0)
  }

  /** How many bytes of files were sent. */
  get sent(): number {
    return this.requests.reduce((sum, one) => sum + one.sent, 0)
  }

  forget(): void {
    this.requests.length = 0
    this.counts.clear()
  }

  private answer(server: "hub" | "files", request: IncomingMessage, response: ServerResponse): undefined {
    const { pathname } = new URL(request.url ?? "/", "http://h")
    const { authorization, range, "if-range": ifRange } = request.headers
    const seen: HubRequest = {
      server,
      path: pathname,
      range,
      authorization,
      ifRange: typeof ifRange === "string" ? ifRange : undefined,
      sent: 0
    }
    this.requests.push(seen)
    const end: End = (status, headers = {}, body = "") => {
      response.writeHead(status, headers).end(body)
      return undefined
    }
    const refused = this.behaviour.refuse?.(seen)
    if (refused !== undefined) return end(refused.status, refused.headers, "refused")
    if (server === "hub") {
      const { gated, token } = this.behaviour
      if (token !== undefined && authorization !== `Bearer ${token}`) {
        return end(401, { "x-error-code": gated === true ? "GatedRepo" : "RepoNotFound" })
      }
      if (gated === true && !pathname.startsWith("/api/")) return end(403, { "x-error-code": "GatedRepo" })
    }
    const parts = pathname.split("/").slice(1).map(decodeURIComponent)
    if (parts[0] === "api") return this.api(parts, end)
    if (parts[0] === "files") {
      const file = this.files[parts.slice(1).join("/")]
      return file === undefined ? end(404) : this.send(file, seen, response)
    }
    if (parts[0] === "blob") {
      const file = this.repositories[`${parts[1]}/${parts[2]}`]?.[parts[3] ?? ""]?.[parts.slice(4).join("/")]
      return file === undefined ? end(404) : this.send(file, seen, response)
    }
    return this.resolve(parts, end)
  }

  private branchOf(repository: string, revision: string): string | undefined {
    const branches = Object.keys(this.repositories[repository] ?? {})
    return branches.find((one) => one === revision || this.commitOf(one) === revision)
  }

  /** The commit of a branch. */
  commitOf(branch: string): string {
    return branch === "main" ? this.commit : createHash("sha1").update(`${this.commit} ${branch}`).digest("hex")
  }

  private api(parts: ReadonlyArray<string>, end: End): undefined {
    const [, , owner, repo, what, revision = ""] = parts
    const repository = `${owner}/${repo}`
    const branches = this.repositories[repository]
    if (branches === undefined) return end(401, { "x-error-code": "RepoNotFound" })
    const json = (value: unknown) => end(200, { "content-type": "application/json" }, JSON.stringify(value))
    if (what === "refs") {
      return json({ branches: Object.keys(branches).map((name) => ({ name, ref: `refs/heads/${name}` })) })
    }
    const branch = this.branchOf(repository, revision)
    if (what !== "revision" || branch === undefined) return end(404, { "x-error-code": "RevisionNotFound" })
    return json({
      id: repository,
      sha: this.commitOf(branch),
      siblings: Object.entries(branches[branch] ?? {}).map(([rfilename, file]) => ({
        rfilename,
        size: file.listedSize ?? file.bytes.length,
        lfs: rfilename.endsWith(".gguf")
          ? {
              sha256: file.listedSha256 ?? sha256(file.bytes),
              size: file.listedSize ?? file.bytes.length,
              pointerSize: 134
            }
          : undefined
      }))
    })
  }

  private resolve(parts: ReadonlyArray<string>, end: End): undefined {
    const [owner, repo, , revision = "", ...rest] = parts
    const repository = `${owner}/${repo}`
    const branch = this.branchOf(repository, revision)
    const path = rest.join("/")
    const file = branch === undefined ? undefined : this.repositories[repository]?.[branch]?.[path]
    if (branch === undefined) return end(404, { "x-error-code": "RevisionNotFound" })
    if (file === undefined) return end(404, { "x-error-code": "EntryNotFound" })
    if (!path.endsWith(".gguf")) return end(200, {}, file.bytes.toString())
    const to =
      this.behaviour.redirect?.(path) ?? `${this.filesUrl}/blob/${repository}/${branch}/${path}?signature=secret`
    end(
      302,
      {
        location: to,
        "x-repo-commit": this.commitOf(branch),
        ...(this.behaviour.plainRedirect === true
          ? {}
          : {
              "x-linked-etag": `"${file.listedSha256 ?? sha256(file.bytes)}"`,
              "x-linked-size": String(file.listedSize ?? file.bytes.length)
            })
      },
      `Found. Redirecting to ${to}`
    )
  }

  private send(file: HubFile, request: HubRequest, response: ServerResponse): undefined {
    const { behaviour } = this
    const { bytes, etag } = file
    const size = bytes.length
    const match = /^bytes=(\d+)-(\d+)$/.exec(request.range ?? "")
    const ranged =
      match !== null && behaviour.ignoreRange !== true && (request.ifRange === undefined || request.ifRange === etag)
    const start = ranged ? Number(match[1]) : 0
    const stop = ranged ? Math.min(Number(match[2]) + 1, size) : size
    const headers: Record<string, string> = { ...(etag === undefined ? {} : { etag }) }
    if (ranged && start >= size) {
      response.writeHead(416, { "content-range": `bytes */${size}` }).end()
      return
    }
    if (ranged) headers["content-range"] = `bytes ${start}-${stop - 1}/${behaviour.claimedSize ?? size}`
    response.writeHead(ranged ? 206 : 200, { ...headers, "content-length": String(stop - start) })
    response.flushHeaders()
    if (behaviour.stall?.(request) === true) return
    const cut = behaviour.cutAfter?.(request)
    const { pace, piece = 0 } = behaviour
    let counts = this.counts.get(file)
    if (counts === undefined || counts.length !== size) {
      counts = new Uint16Array(size)
      this.counts.set(file, counts)
    }
    const counted = counts
    let at = start
    behaviour.onBody?.(request)
    const next = () => {
      if (response.destroyed) return
      if (cut !== undefined && request.sent >= cut) {
        response.socket?.destroy()
        return
      }
      if (at >= stop) {
        response.end()
        return
      }
      const left = cut === undefined ? stop - at : Math.min(stop - at, cut - request.sent)
      const end = at + (piece === 0 ? left : Math.min(piece, left))
      for (let i = at; i < end; i++) counted[i] = (counted[i] ?? 0) + 1
      request.sent += end - at
      const part = bytes.subarray(at, end)
      at = end
      response.write(part, () => (pace === undefined ? setImmediate(next) : setTimeout(next, pace)))
      behaviour.onSent?.()
    }
    next()
  }
}
