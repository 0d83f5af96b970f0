/** Assembles tool calls that are streamed in pieces by OpenAI-compatible servers. */
import type { Sink } from "../Backend.js"
import * as ToolArguments from "../internal/toolArguments.js"
import * as Http from "./http.js"

interface PartialCall {
  /** The caller knows the name and id once a piece was emitted. */
  id: string
  name: string
  text: string
  /** How much of the text was emitted. */
  sentLength: number
}

/** Maximum size of all calls, and the overhead of one piece; both in bytes. */
const maxHeld = 64 * 1024 * 1024
const perPiece = 64

const isBlank = (text: string): boolean => text.trim() === ""

const textOf = (args: unknown): string =>
  typeof args === "string" ? args : args === undefined || args === null ? "" : (JSON.stringify(args) ?? "")

/**
 * Assembles the pieces. They are matched by `id`, else by `index`, else to the previous call; but not every server
 * conforms, so these cases are distinguished by content:
 *
 * - all calls have index 0, or none: a piece with another tool's name, or one after complete arguments, starts a call
 * - the id differs in every piece: a piece without a name continues the call
 *
 * A call is emitted in pieces once its name is known and its arguments begin as an object; all others are emitted when
 * complete, because they may need repair.
 */
export class ToolCalls {
  private readonly calls: Array<PartialCall> = []
  private held = 0
  private readonly byIndex = new Map<number, PartialCall>()
  private readonly byId = new Map<string, PartialCall>()

  constructor(private readonly sink: Sink) {}

  get empty(): boolean {
    return this.calls.length === 0
  }

  /** The calls of one delta, or of a complete message. */
  add(pieces: ReadonlyArray<unknown>, whole: boolean): void {
    for (const [at, piece] of pieces.entries()) this.piece(piece, whole, at > 0)
  }

  /** The older `function_call`: at most one, without an id. */
  addOlder(called: object): void {
    this.piece({ index: 0, function: called }, false, false)
  }

  private piece(piece: unknown, whole: boolean, further: boolean): void {
    const { function: called, id: givenId, index } = (piece ?? {}) as { readonly [key: string]: unknown }
    const { arguments: args, name: givenName } = (called ?? {}) as { readonly [key: string]: unknown }
    const id = typeof givenId === "string" ? givenId : ""
    const name = typeof givenName === "string" ? givenName : ""
    const text = textOf(args)
    const at = typeof index === "number" ? index : undefined
    let call = whole ? undefined : this.find(id, name, text, at, further)
    if (call === undefined) {
      call = { id: "", name: "", text: "", sentLength: 0 }
      this.calls.push(call)
    }
    if (at !== undefined) this.byIndex.set(at, call)
    if (id !== "") {
      this.byId.set(id, call)
      if (call.id === "") call.id = id
    }
    if (call.name === "") call.name = name
    call.text += text
    this.held += text.length + id.length + perPiece
    if (this.held > maxHeld) throw new Http.Malformed(`the tool calls of an answer are longer than ${maxHeld} bytes`)
    this.tell(call, text)
  }

  /** The call that a piece belongs to, if it has started. */
  private find(id: string, name: string, text: string, at: number | undefined, further: boolean) {
    const known = id === "" ? undefined : this.byId.get(id)
    if (known !== undefined) return known
    const before = at === undefined ? this.calls.at(-1) : this.byIndex.get(at)
    if (before === undefined || name === "") return before
    if (before.name === "") return before
    // Pieces of one delta without an index are different calls.
    if (at === undefined && further) return undefined
    if (before.name !== name) return undefined
    if (id !== "" && before.id === "") return ToolArguments.isWhole(before.text) ? undefined : before
    if (isBlank(before.text)) return id !== "" && isBlank(text) ? undefined : before
    return ToolArguments.isWhole(before.text) && !isBlank(text) ? undefined : before
  }

  private tell(call: PartialCall, piece: string): void {
    const { sink } = this
    const { name, text, sentLength } = call
    if (name !== "" && text.length > sentLength && (sentLength > 0 || text.trimStart().startsWith("{"))) {
      if (call.id === "") call.id = Http.callId()
      call.sentLength = text.length
      sink.toolCallDelta?.(this.calls.indexOf(call), call.id, name, sentLength === 0 ? text : piece)
    } else sink.progress?.()
  }

  /** Emits each complete call. If the answer was `cut`, the last may lack its arguments. */
  take(cut: boolean): void {
    const last = this.calls.at(-1)
    for (const call of this.calls) {
      if (call.name === "") throw new Http.Malformed("a tool call without a name")
      const { id, name, text } = call
      const args = cut && call === last && isBlank(text) ? ToolArguments.invalid(text) : ToolArguments.read(text)
      this.sink.toolCall({ id: id === "" ? Http.callId() : id, name, ...args })
    }
    this.calls.length = 0
  }
}
