/** What a screen reads from the gateway. */
import { useCallback, useEffect, useState } from "preact/hooks"
import { ApiError, get } from "../api"

export interface Data<A> {
  readonly value: A | undefined
  /** Why there is none. */
  readonly problem: ApiError | undefined
  readonly reload: () => void
}

const unread = { path: undefined, value: undefined, problem: undefined }

/** Reads a path when it is first shown or becomes another one, every so many milliseconds, and whenever `again` changes. */
export const useData = <A>(path: string | undefined, every?: number, again = 0): Data<A> => {
  const [state, set] = useState<Omit<Data<A>, "reload"> & { readonly path: string | undefined }>(unread)
  const [turn, setTurn] = useState(0)
  const reload = useCallback(() => setTurn((before) => before + 1), [])
  useEffect(() => {
    if (path === undefined) return
    let wanted = true
    const told = (value: A | undefined, problem?: unknown) => {
      if (!wanted) return
      const known = problem === undefined || problem instanceof ApiError ? problem : new ApiError(0, String(problem))
      set((before) => ({ path, value: value ?? (before.path === path ? before.value : undefined), problem: known }))
    }
    get<A>(path).then(told, (error) => told(undefined, error))
    return () => {
      wanted = false
    }
  }, [path, turn, again])
  useEffect(() => {
    if (every === undefined) return
    const timer = setInterval(() => document.visibilityState === "visible" && reload(), every)
    return () => clearInterval(timer)
  }, [every, reload])
  // What another path gave is not shown for this one.
  return { ...(state.path === path ? state : unread), reload }
}
