/** What Ollama servers report about their loaded models and version; requested only when a page shows it. */
import * as Management from "../../management/models.js"
import type { ServerStatus } from "../../Registry.js"
import type { Library } from "../library.js"

/** A model in memory: sizes are in bytes, `until` is in milliseconds since the epoch. */
interface Loaded {
  readonly size: number | undefined
  readonly memory: number | undefined
  readonly gpuMemory: number | undefined
  readonly until: number
}

/** The last report of a server. */
export interface Upstream {
  readonly version: string | undefined
  readonly listsLoaded: boolean
  readonly loaded: ReadonlyMap<string, Loaded>
  /** The sizes of the models' files. */
  readonly sizes: ReadonlyMap<string, number>
}

/** How long an answer is used again, in milliseconds: who looks twice a second asks no more often than this. */
const maxAge = 2_000
const maxVersionAge = 300_000

/** The most servers that are asked, because each view asks every one of them. */
const maxAsked = 256

/** How long a view waits for servers, in milliseconds; later answers are there for the next view. */
const maxWait = 500

const count = (value: unknown): number | undefined => (typeof value === "number" && value >= 0 ? value : undefined)

const loadedOf = (models: ReadonlyArray<Management.Fields>): Map<string, Loaded> => {
  const loaded = new Map<string, Loaded>()
  for (const model of models) {
    const name = model["name"] ?? model["model"]
    if (typeof name !== "string") continue
    const until = Date.parse(String(model["expires_at"]))
    const memory = count(model["size"])
    loaded.set(name, {
      size: undefined,
      memory,
      gpuMemory: count(model["size_vram"]),
      until: Number.isNaN(until) ? 0 : until
    })
  }
  return loaded
}

const sizesOf = (models: ReadonlyArray<Management.Fields>): Map<string, number> => {
  const sizes = new Map<string, number>()
  for (const model of models) {
    const name = model["name"] ?? model["model"]
    const size = count(model["size"])
    if (typeof name === "string" && size !== undefined) sizes.set(name, size)
  }
  return sizes
}

class Lookup {
  readonly known = new Map<string, Upstream>()
  private readonly versions = new Map<string, { readonly at: number; readonly version: string | undefined }>()
  private readonly sizes = new Map<string, { readonly at: number; readonly sizes: ReadonlyMap<string, number> }>()
  private asked = Number.NEGATIVE_INFINITY
  private running: Promise<void> | undefined

  constructor(private readonly library: Library) {}

  refresh(statuses: ReadonlyArray<ServerStatus>): Promise<void> {
    if (this.running !== undefined) return this.running
    if (performance.now() - this.asked < maxAge) return Promise.resolve()
    this.asked = performance.now()
    this.running = this.ask(statuses).finally(() => {
      this.running = undefined
    })
    return this.running
  }

  /** Something was changed: who looks next asks. */
  expire(): void {
    this.asked = Number.NEGATIVE_INFINITY
    this.sizes.clear()
  }

  private async ask(statuses: ReadonlyArray<ServerStatus>): Promise<void> {
    const { transport } = this.library
    const all = await this.library.run(this.library.servers).result
    const listed = all
      .filter(({ status }) => status.reachable && (status.protocol ?? "ollama") === "ollama")
      .slice(0, maxAsked)
      .map(({ server }) => ({ server, ollama: true }))
    const urls = new Set(statuses.map(({ url }) => url))
    for (const url of this.known.keys()) if (!urls.has(url)) this.known.delete(url)
    await Promise.all(
      listed.map(async (one) => {
        const { url } = one.server
        const [loaded] = await Management.listAll(transport, [one], "/api/ps")
        if (loaded?.models === undefined) {
          this.known.delete(url)
          return
        }
        const now = performance.now()
        let version = this.versions.get(url)
        if (version === undefined || now - version.at > maxVersionAge) {
          version = { at: now, version: await Management.version(transport, one.server) }
          this.versions.set(url, version)
        }
        let sizes = this.sizes.get(url)
        if (sizes === undefined || now - sizes.at > maxVersionAge) {
          const [tags] = await Management.listAll(transport, [one], "/api/tags")
          sizes = { at: now, sizes: sizesOf(tags?.models ?? []) }
          this.sizes.set(url, sizes)
        }
        const memory = loadedOf(loaded.models)
        this.known.set(url, {
          version: version.version,
          listsLoaded: true,
          loaded: memory,
          sizes: sizes.sizes
        })
        // Routing knows it too, and forgets what others have unloaded.
        this.library.fleet.resident(url, new Map([...memory].map(([model, { until }]) => [model, until])))
      })
    )
  }
}

const lookups = new WeakMap<Library, Lookup>()

const lookupOf = (library: Library): Lookup => {
  let lookup = lookups.get(library)
  if (lookup === undefined) {
    lookup = new Lookup(library)
    lookups.set(library, lookup)
  }
  return lookup
}

/** The models on servers were changed: earlier reports are outdated. */
export const expire = (library: Library): void => lookupOf(library).expire()

/** The last reports of servers, without a request. */
export const known = (library: Library): ReadonlyMap<string, Upstream> => lookupOf(library).known

/** The reports of servers, by their address. */
export const lookUp = async (
  library: Library,
  statuses: ReadonlyArray<ServerStatus>
): Promise<ReadonlyMap<string, Upstream>> => {
  const lookup = lookupOf(library)
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, maxWait)
  })
  await Promise.race([lookup.refresh(statuses).catch(() => {}), late])
  clearTimeout(timer)
  return lookup.known
}
