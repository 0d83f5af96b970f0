/** The keys of a terminal, as Node decodes them; what is pasted is one input. */
import { emitKeypressEvents, type Key } from "node:readline"

export type Input =
  | {
      readonly type: "key"
      readonly name: string
      readonly ctrl: boolean
      readonly meta: boolean
      readonly text: string
    }
  | { readonly type: "paste"; readonly text: string }
  | { readonly type: "end" }

const pasteOn = "\u001b[?2004h"
const pasteOff = "\u001b[?2004l"

const isInterrupt = (input: Input): boolean => input.type === "key" && input.ctrl && input.name === "c"

/**
 * Owns the terminal from `open` to `close`: it does not show what is typed. Inputs that are not read yet are kept in
 * their order.
 */
export class Keyboard {
  readonly #waiting: Array<Input> = []
  #read: ((input: Input) => boolean) | undefined
  #interrupt: (() => void) | undefined
  #pasted: string | undefined
  #isOpen = false

  readonly #onKey = (text: string | undefined, key: Key) => {
    if (key.name === "paste-start") {
      this.#pasted = ""
      return
    }
    if (this.#pasted !== undefined) {
      if (key.name === "paste-end") {
        const pasted = this.#pasted
        this.#pasted = undefined
        this.#give({ type: "paste", text: pasted })
      } else this.#pasted += key.sequence ?? text ?? ""
      return
    }
    const { ctrl = false, meta = false, name = "" } = key
    this.#give({ type: "key", name, ctrl, meta, text: ctrl || meta ? "" : (text ?? "") })
  }
  readonly #onEnd = () => this.#give({ type: "end" })
  readonly #onExit = () => this.#release()

  open(): void {
    if (this.#isOpen) return
    this.#isOpen = true
    const { stdin } = process
    emitKeypressEvents(stdin)
    stdin.on("keypress", this.#onKey).on("end", this.#onEnd).on("error", this.#onEnd)
    // Whatever ends the process: the shell gets its terminal back as it was.
    process.on("exit", this.#onExit)
    stdin.setRawMode(true)
    stdin.resume()
    process.stdout.write(pasteOn)
  }

  close(): void {
    if (!this.#isOpen) return
    const { stdin } = process
    stdin.off("keypress", this.#onKey).off("end", this.#onEnd).off("error", this.#onEnd)
    process.off("exit", this.#onExit)
    stdin.pause()
    this.#release()
  }

  /** `use` gets all inputs, first those that are waiting, until it returns `false` or `stopReading` is called. */
  read(use: (input: Input) => boolean): void {
    this.#read = use
    while (this.#read === use) {
      const input = this.#waiting.shift()
      if (input === undefined) return
      this.#pass(use, input)
    }
  }

  /** Keys wait from now on. */
  stopReading(): void {
    this.#read = undefined
  }

  /**
   * `stop` is called for Ctrl-C, until the returned function is called. What was typed before Ctrl-C stays, but is not
   * sent by itself: its line breaks are text.
   */
  onInterrupt(stop: () => void): () => void {
    const mine = () => {
      for (const [at, input] of this.#waiting.entries()) {
        if (input.type === "key" && input.name === "return") this.#waiting[at] = { type: "paste", text: "\n" }
      }
      stop()
    }
    this.#interrupt = mine
    return () => {
      if (this.#interrupt === mine) this.#interrupt = undefined
    }
  }

  /** Stops the process as the shell does, until it is continued: at once, where no shell could continue it. */
  suspend(resumed: () => void): void {
    const go = () => {
      clearTimeout(timer)
      process.off("SIGCONT", go)
      this.open()
      resumed()
    }
    if (process.platform === "win32") {
      resumed()
      return
    }
    this.close()
    process.on("SIGCONT", go)
    process.kill(process.pid, "SIGTSTP")
    const timer = setTimeout(go, 200)
  }

  #release(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    process.stdout.write(pasteOff)
    process.stdin.setRawMode(false)
  }

  #give(input: Input): void {
    if (this.#interrupt !== undefined && isInterrupt(input)) this.#interrupt()
    else if (this.#read !== undefined && this.#waiting.length === 0) this.#pass(this.#read, input)
    else this.#waiting.push(input)
  }

  #pass(use: (input: Input) => boolean, input: Input): void {
    if (!use(input) && this.#read === use) this.#read = undefined
  }
}
