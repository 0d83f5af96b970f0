import * as Format from "../format"
import type { Model } from "../types"
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

/** Whether a model is in the memory of its server, and for how long. */
export const MemoryState = ({
  at,
  model: { loaded, loaded_until: until }
}: {
  readonly model: Model
  readonly at: number
}) => (
  <>
    {loaded ? <Badge tone="good">loaded</Badge> : <span class="dim">on disk</span>}
    {loaded && until !== null && until > at && until - at < longest ? (
      <span class="dim small whole"> {Format.span(until, at)} more</span>
    ) : null}
  </>
)
