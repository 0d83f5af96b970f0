import * as Format from "../format"
import type { Model, Server } from "../types"
import { Badge } from "./small"

/** The names of a table's columns; those of `numbers` are aligned as figures. */
export const Headings = ({
  names,
  numbers = []
}: {
  readonly names: ReadonlyArray<string>
  readonly numbers?: ReadonlyArray<string>
}) => (
  <thead>
    <tr>
      {names.map((name) => (
        <th key={name} scope="col" class={numbers.includes(name) ? "number" : undefined}>
          {name}
        </th>
      ))}
    </tr>
  </thead>
)

/** A model that stays loaded for longer than this is shown as if it always did, in milliseconds. */
const longest = 30 * 86_400_000

/** Servers with these APIs do not say what they have in memory. */
const silent: ReadonlyArray<string | null> = ["openai", "anthropic"]

/** Whether a model is in the memory of its server, and for how long. */
export const MemoryState = ({
  at,
  model: { loaded, loaded_until: until },
  server: { protocol }
}: {
  readonly model: Model
  readonly server: Pick<Server, "protocol">
  readonly at: number
}) =>
  silent.includes(protocol) ? (
    <span class="dim">not told</span>
  ) : (
    <>
      {loaded ? <Badge tone="good">loaded</Badge> : <span class="dim">on disk</span>}
      {loaded && until !== null && until > at && until - at < longest ? (
        <>
          {" "}
          <span class="dim small whole">{Format.span(until, at)} more</span>
        </>
      ) : null}
    </>
  )
