/** Events of models that change: the progress of long operations, and what was done. */
import type { Fields } from "../../management/models.js"
import type { EventsHub } from "./hub.js"

/** Progress is told at most this often, in milliseconds. */
const interval = 250

/** What was done to a model on a server. */
type Action = "pull" | "create" | "push" | "copy" | "remove" | "load" | "unload"

const count = (value: unknown): number | null => (typeof value === "number" ? value : null)

/** Tells the progress of one operation on one server. */
export class Progress {
  private toldAt = Number.NEGATIVE_INFINITY
  private phase = ""

  constructor(
    private readonly hub: EventsHub,
    private readonly about: {
      readonly action: Action
      readonly model: string
      readonly server: string
      readonly task?: string
    }
  ) {
    this.tell("begin", "", {})
  }

  /** `status` is what the server says that it does. */
  line(status: string, line: Fields): void {
    if (!this.hub.active) return
    const now = performance.now()
    if (status === this.phase && now - this.toldAt < interval) return
    this.phase = status
    this.toldAt = now
    this.tell("progress", status, line)
  }

  end(error?: string): void {
    this.tell(error === undefined ? "done" : "failed", error ?? "", {})
    if (error === undefined && this.about.action !== "push") changed(this.hub, this.about)
  }

  private tell(state: "begin" | "progress" | "done" | "failed", status: string, line: Fields): void {
    if (!this.hub.active) return
    const { completed, total } = line
    this.hub.publish("download", {
      ...this.about,
      at: Date.now(),
      state,
      status: status.slice(0, 200),
      completed: count(completed),
      total: count(total)
    })
  }
}

/** Something was done to a model. */
export const changed = (
  hub: EventsHub,
  about: { readonly action: Action; readonly model: string; readonly server: string }
): void => {
  if (hub.active) hub.publish("model", { ...about, model: about.model.slice(0, 200), at: Date.now() })
}
