/**
 * Reads messages on a terminal. The keys are those of readline. Node's own line editor has one line and takes a pasted
 * line break for Enter, and the prompt packages that edit several lines need a newer Node.
 */
import width from "string-width"
import * as Output from "../../output.js"
import * as Blocks from "./blocks.js"
import { Draft } from "./draft.js"
import * as ExternalEditor from "./externalEditor.js"
import type { Input, Keyboard } from "./keyboard.js"
import { type Layout, layout, visible } from "./layout.js"
import { LiveLines } from "./liveLines.js"

/** What may stand where a word was begun: `from` is where that begins. */
export interface Completions {
  readonly from: number
  readonly candidates: ReadonlyArray<string>
}

export interface ReadOptions {
  readonly prompt: string
  /** Shown while nothing is typed. */
  readonly placeholder: string
  /** What was sent before, the oldest first. */
  readonly history: ReadonlyArray<string>
  readonly complete: (beforeCursor: string) => Promise<Completions>
  /** The notice if Ctrl-C finds nothing to clear. */
  readonly leaving: string
}

/** A message, or `undefined` when the user leaves. */
export type Message = string | undefined

const columns = (): number => process.stdout.columns || 80
const rows = (): number => process.stdout.rows || 24

const up = (count: number) => (count > 0 ? `\u001b[${count}A` : "")
const down = (count: number) => (count > 0 ? `\u001b[${count}B` : "")
const column = (at: number) => `\r${at > 0 ? `\u001b[${at}C` : ""}`

const pasted = (text: string): string => Output.withoutControls(text.replace(/\r\n?/g, "\n"))

const commonPrefix = (words: ReadonlyArray<string>): string => {
  const [first = "", ...others] = words
  let length = first.length
  for (const word of others) while (!word.startsWith(first.slice(0, length))) length--
  return first.slice(0, length)
}

type Action = (draft: Draft) => void

/** `^` is Ctrl, `M-` is Alt. */
const editing: { readonly [key: string]: Action } = {
  left: (draft) => draft.left(),
  right: (draft) => draft.right(),
  home: (draft) => draft.lineStart(),
  end: (draft) => draft.lineEnd(),
  backspace: (draft) => draft.deleteBack(),
  delete: (draft) => draft.deleteForward(),
  enter: (draft) => draft.insert("\n"),
  "M-return": (draft) => draft.insert("\n"),
  "M-enter": (draft) => draft.insert("\n"),
  "^a": (draft) => draft.lineStart(),
  "^e": (draft) => draft.lineEnd(),
  "^b": (draft) => draft.left(),
  "^f": (draft) => draft.right(),
  "^h": (draft) => draft.deleteBack(),
  "^k": (draft) => draft.killToLineEnd(),
  "^u": (draft) => draft.killToLineStart(),
  "^w": (draft) => draft.killWordBack(),
  "^y": (draft) => draft.yank(),
  "^_": (draft) => draft.undo(),
  "^left": (draft) => draft.wordLeft(),
  "^right": (draft) => draft.wordRight(),
  "M-left": (draft) => draft.wordLeft(),
  "M-right": (draft) => draft.wordRight(),
  "M-b": (draft) => draft.wordLeft(),
  "M-f": (draft) => draft.wordRight(),
  "M-d": (draft) => draft.killWordForward(),
  "M-backspace": (draft) => draft.killWordBack(),
  "^backspace": (draft) => draft.killWordBack()
}

const nameOf = (input: Extract<Input, { type: "key" }>): string =>
  `${input.ctrl ? "^" : ""}${input.meta ? "M-" : ""}${input.text === "\u001f" ? "^_" : input.name}`

/** Reads one message. */
class Reading {
  readonly draft = new Draft()
  readonly #lines = new LiveLines()
  #row = 0
  #column = 0
  /** Is written together with the text, so that nothing flickers. */
  #before = ""
  /** Where in the history it is: its length is the draft itself. */
  #at: number
  #own = ""
  #isDone = false

  constructor(
    readonly keyboard: Keyboard,
    readonly options: ReadOptions,
    readonly done: (message: Message) => void
  ) {
    this.#at = options.history.length
  }

  start(): void {
    process.stdout.on("resize", this.#onResize)
    this.#draw()
    this.#listen()
  }

  /** Ends without a message. */
  cancel(): void {
    if (this.#isDone) return
    this.keyboard.stopReading()
    this.#end()
  }

  #listen(): void {
    this.keyboard.read((input) => this.#handle(input))
  }

  #end(): void {
    this.#isDone = true
    process.stdout.off("resize", this.#onResize)
    // The whole text stays above, even if it is longer than the screen.
    this.draft.cursor = this.draft.text.length
    this.#show(layout(this.options.prompt, this.draft.text, this.draft.cursor, columns()))
    process.stdout.write("\r\n")
  }

  #finish(message: Message): false {
    this.#end()
    this.done(message)
    return false
  }

  // ---------------------------------------------------------------------------
  // Showing
  // ---------------------------------------------------------------------------

  #draw(): void {
    const { cursor, isEmpty, text } = this.draft
    const { placeholder, prompt } = this.options
    const place = layout(prompt, text, cursor, columns())
    const room = columns() - 1 - place.column
    if (!isEmpty || place.rows.length > 1 || width(placeholder) > room) this.#show(visible(place, rows()))
    else this.#show({ ...place, rows: [prompt + Output.dim(placeholder, process.stdout)] })
  }

  #show({ column: wanted, row, rows: next }: Layout): void {
    // `LiveLines` begins and ends behind the last row.
    const toEnd = this.#toEnd(this.#lines.shown, this.#row, this.#column)
    const change = this.#lines.update(next, rows())
    const last = next.length - 1
    const isBehind = row === last && wanted === width(next[last] ?? "")
    this.#row = row
    this.#column = wanted
    process.stdout.write(this.#before + toEnd + change + (isBehind ? "" : up(last - row) + column(wanted)))
    this.#before = ""
  }

  /** From a place in the text to its end. */
  #toEnd(shown: ReadonlyArray<string>, row: number, from: number): string {
    const last = shown.length - 1
    const end = width(shown[last] ?? "")
    return last < 0 || (row === last && from === end) ? "" : down(last - row) + column(end)
  }

  /** Prints something above the text. */
  #above(text: string): void {
    this.#before = `${this.#erase(this.#row)}${text.replaceAll("\n", "\r\n")}\r\n`
    this.#draw()
  }

  #erase(rowsAbove: number): string {
    this.#lines.shown = []
    this.#row = 0
    this.#column = 0
    return `${up(rowsAbove)}\r\u001b[J`
  }

  /** Terminals wrap lines again that have become too long. */
  readonly #onResize = () => {
    const limit = columns()
    const broken = this.#lines.shown
      .slice(0, this.#row)
      .reduce((sum, row) => sum + Math.max(1, Math.ceil(width(row) / limit)), 0)
    this.#before = this.#erase(broken + Math.floor(this.#column / limit))
    this.#draw()
  }

  // ---------------------------------------------------------------------------
  // Keys
  // ---------------------------------------------------------------------------

  /** Whether it reads on. */
  #handle(input: Input): boolean {
    const { draft } = this
    if (input.type === "end") return this.#finish(undefined)
    if (input.type === "paste") draft.insert(pasted(input.text))
    else {
      const name = nameOf(input)
      const action = Object.hasOwn(editing, name) ? editing[name] : undefined
      if (action !== undefined) action(draft)
      else if (Object.hasOwn(this.#others, name)) {
        if (this.#others[name]?.() === false) return false
      } else if (input.text >= " " && !input.meta) draft.insert(Output.withoutControls(input.text))
    }
    this.#draw()
    return true
  }

  /** They return `false` if it does not read on. */
  readonly #others: { readonly [key: string]: () => boolean } = {
    return: () => this.#submit(),
    "^c": () => this.#clear(),
    "^d": () => {
      if (this.draft.isEmpty) return this.#finish(undefined)
      this.draft.deleteForward()
      return true
    },
    "^l": () => {
      this.#before = `\u001b[2J\u001b[H${this.#erase(0)}`
      return true
    },
    up: () => this.draft.up() || this.#recall(this.#at - 1),
    "^p": () => this.draft.up() || this.#recall(this.#at - 1),
    down: () => this.draft.down() || this.#recall(this.#at + 1),
    "^n": () => this.draft.down() || this.#recall(this.#at + 1),
    tab: () => this.#pause(this.#complete()),
    "^g": () => this.#pause(this.#edit()),
    "^z": () => this.#pause(this.#suspend())
  }

  #submit(): boolean {
    const { draft } = this
    const atEnd = draft.cursor === draft.text.length
    if (atEnd && Blocks.goesOn(draft.text)) draft.complete(draft.text.length - 1, "\n")
    else if (Blocks.isOpenBlock(draft.text)) draft.insert("\n")
    else return this.#finish(draft.text)
    return true
  }

  #clear(): boolean {
    this.#at = this.options.history.length
    if (this.draft.isEmpty) this.#above(Output.dim(this.options.leaving, process.stdout))
    else this.draft.reset()
    return true
  }

  #recall(at: number): true {
    const { history } = this.options
    if (at < 0 || at > history.length) return true
    if (this.#at === history.length) this.#own = this.draft.text
    this.#at = at
    this.draft.reset(history[at] ?? this.#own)
    return true
  }

  /** Keys wait while something else runs. */
  #pause(task: Promise<void>): false {
    void task.then(() => {
      if (this.#isDone) return
      this.#draw()
      this.#listen()
    })
    return false
  }

  async #complete(): Promise<void> {
    const { draft } = this
    const { candidates, from } = await this.options.complete(draft.beforeCursor)
    if (candidates.length === 0) return
    const typed = draft.beforeCursor.slice(from)
    const prefix = commonPrefix(candidates)
    const [only] = candidates
    if (candidates.length === 1 && only !== undefined) draft.complete(from, /[\s/]$/.test(only) ? only : `${only} `)
    else if (prefix.length > typed.length) draft.complete(from, prefix)
    else this.#above(candidates.map((candidate) => candidate.trimEnd()).join("  "))
  }

  #suspend(): Promise<void> {
    return new Promise((resolve) =>
      this.keyboard.suspend(() => {
        this.#erase(0)
        resolve()
      })
    )
  }

  async #edit(): Promise<void> {
    process.stdout.write(this.#erase(this.#row))
    this.keyboard.close()
    try {
      this.draft.set(await ExternalEditor.edit(this.draft.text))
    } catch (error) {
      process.stderr.write(
        `aicortex: ${Output.withoutControls(error instanceof Error ? error.message : String(error))}\n`
      )
    } finally {
      this.keyboard.open()
    }
  }
}

/** Reads one message; the returned function gives up. */
export const read = (keyboard: Keyboard, options: ReadOptions, done: (message: Message) => void): (() => void) => {
  const reading = new Reading(keyboard, options, done)
  reading.start()
  return () => reading.cancel()
}
