import { afterEach, expect } from "vitest"

/** Keeps what a test opens until it ends; what was opened last is closed first. */
export const useKeep = () => {
  const open: Array<AsyncDisposable> = []
  afterEach(async () => {
    for (const one of open.splice(0).reverse()) await one[Symbol.asyncDispose]()
  })
  return <A extends AsyncDisposable>(one: A): A => {
    open.push(one)
    return one
  }
}

/** What a promise fails with, which must be of this kind. */
export const failureOf = <E extends Error>(
  promise: PromiseLike<unknown>,
  kind: abstract new (...args: never) => E
): Promise<E> =>
  Promise.resolve(promise).then(
    () => {
      throw new Error("it did not fail")
    },
    (error: unknown) => {
      expect(error).toBeInstanceOf(kind)
      return error as E
    }
  )
