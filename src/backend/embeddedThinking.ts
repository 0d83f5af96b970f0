/** Tells a model's reasoning, between `<think>` and `</think>`, from its answer. */
import { partialMark } from "../internal/partialMark.js"

const opening = "<think>"
const closing = "</think>"

/** What a piece of the output is. */
export interface Split {
  readonly thinking: string
  readonly text: string
}

const nothing: Split = { thinking: "", text: "" }

export class ThinkingSplitter {
  private held = ""
  private begun = false

  /** `begin`: the model may think; `thinking`: the prompt ended with the opening tag; `text`: it does not think. */
  constructor(private state: "begin" | "thinking" | "after" | "text") {}

  get isThinking(): boolean {
    return this.state === "thinking"
  }

  push(piece: string): Split {
    if (this.state === "text") return { thinking: "", text: piece }
    this.held += piece
    if (this.state === "begin") {
      const start = this.held.trimStart()
      if (start.length < opening.length && opening.startsWith(start)) return nothing
      if (!start.startsWith(opening)) return { thinking: "", text: this.through() }
      this.held = start.slice(opening.length)
      this.state = "thinking"
    }
    let thinking = ""
    if (this.state === "thinking") {
      const at = this.held.indexOf(closing)
      const end = at === -1 ? this.held.length - partialMark(this.held, closing) : at
      thinking = this.thought(this.held.slice(0, end), at !== -1)
      this.held = this.held.slice(at === -1 ? end : at + closing.length)
      if (at === -1) return { thinking, text: "" }
      this.state = "after"
    }
    this.held = this.held.trimStart()
    return { thinking, text: this.held === "" ? "" : this.through() }
  }

  /** What was held back at the end. */
  rest(): Split {
    const { held } = this
    this.held = ""
    if (this.state === "thinking") return { thinking: held, text: "" }
    return { thinking: "", text: this.state === "begin" ? held : "" }
  }

  /** Templates put the tags on lines of their own. */
  private thought(text: string, last: boolean): string {
    const started = this.begun ? text : text.replace(/^\s*\n/, "")
    if (started !== "") this.begun = true
    return last ? started.replace(/\n$/, "") : started
  }

  private through(): string {
    const text = this.held
    this.held = ""
    this.state = "text"
    return text
  }
}
