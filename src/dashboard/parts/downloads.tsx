import * as Format from "../format"
import type { Download } from "../types"
import { Badge, Meter } from "./small"

/** Downloads under way, and the latest that ended. */
export const Downloads = ({
  all,
  cancel
}: {
  readonly all: ReadonlyArray<Download>
  readonly cancel?: (task: string) => void
}) => (
  <ul class="downloads" aria-label="Downloads">
    {all.slice(0, 5).map(({ action, completed, model, server, state, status, task, total }) => (
      <li key={`${action}${model}${server}`}>
        <span>
          <b>{Format.harmless(model)}</b>{" "}
          <span class="dim">
            {action} on {server}
          </span>
        </span>
        <span class="row">
          {task !== undefined && cancel !== undefined && (state === "begin" || state === "progress") ? (
            <button
              type="button"
              class="small"
              aria-label={`Stop the download of ${model}`}
              onClick={() => cancel(task)}
            >
              Stop
            </button>
          ) : null}
          <Badge tone={state === "failed" ? "bad" : state === "done" ? "good" : "info"}>{state}</Badge>
        </span>
        {completed !== null && total !== null && total > 0 ? (
          <Meter value={completed} most={total} label={`Progress of ${model}`} />
        ) : null}
        <span class="dim small">
          {Format.harmless(status)}
          {completed === null ? "" : ` ${Format.bytes(completed)} of ${Format.bytes(total)}`}
        </span>
      </li>
    ))}
  </ul>
)
