/** One way to talk to one server. Both give the whole text, as its user would collect it. */
export interface Client {
  readonly call: () => Promise<string>
  readonly stream: () => Promise<string>
}

/** What a module of this folder exports; `url` has no path. */
export type Open = (url: string) => Promise<Client>

/** The library is not there to be measured. */
export class NotBuilt extends Error {
  override readonly name = "NotBuilt"
}

/** Imports the built package or the bundled sources, whichever the launcher found. */
export const subject = (entry: "BENCH_EFFECT" | "BENCH_PROMISE"): Promise<unknown> => {
  const specifier = process.env[entry]
  if (specifier === undefined) return Promise.reject(new NotBuilt())
  return import(specifier)
}
