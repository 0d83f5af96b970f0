/** Events of models that change: the progress of long operations, and what was done. */
import type { Fields } from "../../management/models.js"
import type { EventsHub } from "./hub.js"
import type { DownloadEvent, ModelEvent } from "./views.js"

/** The shortest time between two events about progress, in milliseconds. */
const interval = 250

/** Which model of which server, and what is done to it. */
type About = Omit<ModelEvent, "at">

const count = (value: unknown): number | null => (typeof value === "number" ? value : null)

/** Tells the progress of one operation on one server. */
export class Progress {
  private toldAt = Number.NEGATIVE_INFINITY
  private phase = ""

  constructor(
    private readonly hub: EventsHub,
    private readonly about: About & Pick<DownloadEvent, "task">
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

  private tell(state: DownloadEvent["state"], status: string, line: Fields): void {
    if (!this.hub.active) return
    const { completed, total } = line
    const event: DownloadEvent = {
      ...this.about,
      at: Date.now(),
      state,
      status: status.slice(0, 200),
      completed: count(completed),
      total: count(total)
    }
    this.hub.publish("download", event)
  }
}

/** Something was done to a model. */
export const changed = (hub: EventsHub, about: About): void => {
  const event: ModelEvent = { ...about, model: about.model.slice(0, 200), at: Date.now() }
  hub.publish("model", event)
}
