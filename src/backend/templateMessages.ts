/**
 * Normalises a conversation for chat templates.
 *
 * Clients send what OpenAI's own servers accept: system messages anywhere, consecutive messages of one role, tool calls
 * without results, results in other places. Most models' templates reject that, each in its own way, so whether a
 * conversation can continue would depend on the server. It is normalised here for all of them, without dropping any
 * content.
 */
import type { AssistantMessage, Message, ToolCall, ToolMessage, UserMessage } from "../Message.js"

type Messages = ReadonlyArray<Message>

const isEmpty = ({ content, toolCalls }: AssistantMessage): boolean =>
  content.trim() === "" && (toolCalls === undefined || toolCalls.length === 0)

const hasEmptyPart = ({ content }: UserMessage): boolean =>
  typeof content !== "string" &&
  (content.length === 0 || content.some((part) => part.type === "text" && part.text === ""))

/** The number of results that directly follow the calls from `at` on, or -1 if any is missing. */
const answered = (messages: Messages, at: number, calls: ReadonlyArray<ToolCall>): number => {
  for (let i = 0; i < calls.length; i++) {
    const message = messages[at + i]
    if (message?.role !== "tool" || message.toolCallId === "" || message.toolCallId !== calls[i]?.id) return -1
  }
  return calls.length
}

/** Most conversations need no change. */
const isPlain = (messages: Messages, strictly: boolean): boolean => {
  let last = ""
  for (let i = 0; i < messages.length; i++) {
    const message = messages[i] as Message
    const { role } = message
    if (strictly && role === last) return false
    last = role
    switch (role) {
      case "developer":
        if (strictly) return false
        break
      case "system":
        if (strictly && i > 0) return false
        break
      case "user":
        if (hasEmptyPart(message)) return false
        break
      case "tool":
        return false
      case "assistant": {
        if (strictly && isEmpty(message)) return false
        const { toolCalls } = message
        if (toolCalls === undefined) break
        const results = answered(messages, i + 1, toolCalls)
        if (results === -1) return false
        if (results > 0) last = "tool"
        i += results
      }
    }
  }
  return true
}

const between = "\n\n"
const joined = (one: string, other: string): string =>
  one === "" || other === "" ? one + other : one + between + other

const partsOf = ({ content }: UserMessage) =>
  typeof content === "string" ? (content === "" ? [] : [{ type: "text" as const, text: content }]) : content

const cleaned = (message: UserMessage): UserMessage => {
  if (!hasEmptyPart(message) || typeof message.content === "string") return message
  const content = message.content.filter((part) => part.type !== "text" || part.text !== "")
  return { ...message, content: content.length === 0 ? "" : content }
}

const both = (one: UserMessage, other: UserMessage): UserMessage => ({
  ...one,
  content:
    typeof one.content === "string" && typeof other.content === "string"
      ? joined(one.content, other.content)
      : [...partsOf(one), ...partsOf(other)]
})

const together = (one: AssistantMessage, other: AssistantMessage): AssistantMessage => {
  const thinking = joined(one.thinking ?? "", other.thinking ?? "")
  const toolCalls = [...(one.toolCalls ?? []), ...(other.toolCalls ?? [])]
  const { thinking: _, toolCalls: __, ...rest } = one
  return {
    ...rest,
    content: joined(one.content, other.content),
    ...(thinking === "" ? {} : { thinking }),
    ...(toolCalls.length === 0 ? {} : { toolCalls })
  }
}

const noResult = "There is no result: the call was not carried out."

/** Matches results to calls: by id, or, without one, by tool and position. */
class Results {
  private readonly byId = new Map<string, Array<ToolMessage>>()
  private readonly used = new Set<ToolMessage>()
  private readonly byCall = new Map<ToolCall, ToolMessage>()

  constructor(messages: Messages) {
    for (const message of messages) {
      if (message.role !== "tool") continue
      const known = this.byId.get(message.toolCallId)
      if (known === undefined) this.byId.set(message.toolCallId, [message])
      else known.push(message)
    }
    for (const message of messages) {
      if (message.role !== "assistant") continue
      for (const call of message.toolCalls ?? []) {
        const result = (call.id === "" ? undefined : this.byId.get(call.id)?.shift()) ?? this.unnamed(call)
        if (result === undefined) continue
        this.used.add(result)
        this.byCall.set(call, result)
      }
    }
  }

  private unnamed({ name }: ToolCall): ToolMessage | undefined {
    const all = this.byId.get("")
    const at = all?.findIndex(({ toolName }) => toolName === name || toolName === "") ?? -1
    return at === -1 ? undefined : all?.splice(at, 1)[0]
  }

  of(call: ToolCall): ToolMessage | undefined {
    return this.byCall.get(call)
  }
  belongs(result: ToolMessage): boolean {
    return this.used.has(result)
  }
}

/** A result without a call becomes a user message. */
const described = ({ content, toolName }: ToolMessage): UserMessage => ({
  role: "user",
  content: `Result of ${toolName === "" ? "a tool" : `the tool ${toolName}`}:\n${content}`
})

/** Some templates require ids of nine letters and digits. */
const idOf = (n: number): string => `call${String(n).padStart(5, "0")}`

/**
 * The conversation in a form that templates accept. `strictly`: one system message in front, and alternating roles;
 * else only calls and their results are made adjacent, which OpenAI requires, too.
 */
export const templateMessages = (messages: Messages, strictly: boolean): Messages => {
  if (isPlain(messages, strictly)) return messages
  const results = new Results(messages)
  let system: Extract<Message, { role: "system" | "developer" }> | undefined
  const turns: Array<Message> = []
  for (const message of messages) {
    const last = turns.at(-1)
    switch (message.role) {
      case "system":
      case "developer":
        if (!strictly) turns.push(message)
        else if (system === undefined) system = { ...message, role: "system" }
        else if (message.content !== "") {
          system = { role: "system", content: joined(system.content, message.content) }
        }
        break
      case "assistant":
        if (strictly && isEmpty(message)) break
        if (strictly && last?.role === "assistant") turns[turns.length - 1] = together(last, message)
        else turns.push(message)
        break
      case "tool":
        // Calls before and after a result were made one after the other.
        if (results.belongs(message)) turns.push(message)
        else turns.push(described(message))
        break
      case "user":
        turns.push(cleaned(message))
    }
  }
  const made: Array<Message> = system === undefined ? [] : [system]
  let unnamed = 0
  for (const turn of turns) {
    if (turn.role === "tool") continue
    const last = made.at(-1)
    let message = turn
    if (strictly && message.role === "assistant" && last?.role === "assistant") {
      message = together(last, message)
      made.pop()
    }
    if (message.role === "user" && strictly && last?.role === "user" && last.name === message.name) {
      made[made.length - 1] = both(last, message)
      continue
    }
    if (message.role !== "assistant" || message.toolCalls === undefined || message.toolCalls.length === 0) {
      made.push(message)
      continue
    }
    const calls = message.toolCalls.map((call) => (call.id === "" ? { ...call, id: idOf(unnamed++) } : call))
    made.push({ ...message, toolCalls: calls })
    for (const [i, { id, name }] of calls.entries()) {
      const result = results.of(message.toolCalls[i] as ToolCall)
      made.push({
        role: "tool",
        content: result?.content ?? noResult,
        toolCallId: id,
        toolName: result?.toolName || name
      })
    }
  }
  return made
}
