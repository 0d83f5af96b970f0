/** The models of an alias, as one choice. */
import type { Candidate, Conditions, Excluded } from "../Decision.js"
import { unknown } from "../Decision.js"
import type { Host } from "../Server.js"
import { type ModelCandidate, type Selection, withOthers } from "./candidate.js"

/** What `auto` chose, and its place in the chain. */
interface Automatic {
  readonly models: ReadonlyArray<ModelCandidate>
  readonly at: number
}

export class ChainSelection implements Selection {
  readonly models: ReadonlyArray<ModelCandidate>

  /** `hostsOf` gives the servers of a model, as far as they are known. */
  constructor(
    readonly asked: string,
    links: ReadonlyArray<ModelCandidate>,
    private readonly auto: Automatic | undefined,
    private readonly hostsOf: (model: string) => ReadonlyArray<Host>
  ) {
    const reasons = ["the first of its alias", "the next of its alias"]
    const named = links.map((link, at) => ({
      ...link,
      reason: links.length === 1 && auto === undefined ? "its alias stands for it" : (reasons[at === 0 ? 0 : 1] ?? ""),
      selection: this
    }))
    if (auto === undefined) {
      this.models = named
      return
    }
    const { at } = auto
    const others = [...withOthers(auto.models)].filter(({ model }) => links.every((link) => link.model !== model))
    this.models = [...named.slice(0, at), ...others, ...named.slice(at)]
  }

  get candidates(): ReadonlyArray<Candidate> {
    const chosen = this.auto?.models[0]?.selection?.candidates ?? []
    let told = false
    return this.models.flatMap(({ accepts, auto, model }) => {
      if (!auto) {
        return this.hostsOf(model).flatMap((host) =>
          accepts?.(host) === false ? [] : [{ model: host.model, server: host.server.url, reason: "" }]
        )
      }
      if (told) return []
      told = true
      return chosen
    })
  }

  get excluded(): ReadonlyArray<Excluded> {
    return this.auto?.models[0]?.selection?.excluded ?? []
  }

  get conditions(): Conditions {
    return this.auto?.models[0]?.selection?.conditions ?? unknown
  }
}
