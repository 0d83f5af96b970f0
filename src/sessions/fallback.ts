/** Conversations of a terminal: in the store, or, where there can be none, in the memory of this process. */
import * as Effect from "effect/Effect"
import type { StoreUnavailable } from "../Errors.js"
import type { Store } from "./store.js"

/**
 * Conversations of `stored`, which needs `open`. Where that finds that there can be no store, `tell` says so once, and what
 * is created from then on is in `memory`. Only a new conversation may be there: an older one is an error, and not missing.
 */
export const orInMemory = (
  stored: Store,
  memory: Store,
  open: Effect.Effect<void, StoreUnavailable>,
  tell: (reason: string) => Effect.Effect<void>
): Store => {
  let isMemory = false
  const chosen = () => (isMemory ? memory : stored)
  const via = <A, E>(use: (store: Store) => Effect.Effect<A, E>) => Effect.suspend(() => use(chosen()))
  return {
    create: (id, seed) =>
      Effect.suspend(() => {
        if (isMemory) return memory.create(id, seed)
        return Effect.matchEffect(open, {
          onSuccess: () => stored.create(id, seed),
          onFailure: ({ absent, reason }) => {
            if (absent !== true) return stored.create(id, seed)
            isMemory = true
            return Effect.zipRight(tell(reason), memory.create(id, seed))
          }
        })
      }),
    load: (id) => via((store) => store.load(id)),
    append: (id, version, messages, usage) => via((store) => store.append(id, version, messages, usage)),
    read: (id) => via((store) => store.read(id)),
    update: (id, changes) => via((store) => store.update(id, changes)),
    reset: (id) => via((store) => store.reset(id)),
    remove: (id) => via((store) => store.remove(id)),
    removeUnused: (id, since) => via((store) => store.removeUnused(id, since)),
    list: (selection) => via((store) => store.list(selection)),
    search: (words, selection) => via((store) => store.search(words, selection)),
    turn: (id) => {
      const ticket = chosen().turn?.(id)
      return ticket ?? { wait: Effect.void, release: () => {} }
    }
  }
}
