/** The bodies of a request and its answer, where the request log is asked to keep them. */
import type * as BodyFields from "./body.js"

/** Longer bodies are cut in the log. */
export const maxLoggedBody = 256 * 1024

/** What a client asked, and what it was sent. */
export class Transcript {
  private text = ""
  private isCut = false

  constructor(readonly body: BodyFields.Fields) {}

  add(text: string): void {
    if (this.isCut) return
    const room = maxLoggedBody - this.text.length
    this.text += text.length > room ? text.slice(0, room) : text
    this.isCut = text.length > room
  }

  get answer(): string {
    return this.isCut ? `${this.text}… (cut)` : this.text
  }
}
