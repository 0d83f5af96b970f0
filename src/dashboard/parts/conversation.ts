/** Conversations of the playground, which are sessions of the gateway. */

import { call, post } from "../api"
import { begun, type Turn } from "../chat"

/** How a conversation stands at the gateway. */
export interface Stored {
  readonly id: string | undefined
  /** For each turn that is stored, after how many turns of the page it ends: what was broken off is not stored. */
  readonly ends: ReadonlyArray<number>
  /** The system prompt that it was last asked with, which is among its metadata. */
  readonly system: string
}

export const unstored: Stored = { id: undefined, ends: [], system: "" }

const at = (id: string): string => `/v1/sessions/${encodeURIComponent(id)}`

export const removeSession = (id: string): Promise<unknown> => call(at(id), { method: "DELETE" })

export const rename = (id: string, title: string): Promise<unknown> =>
  call(at(id), { method: "PATCH", body: JSON.stringify({ title: title.trim() === "" ? null : title.trim() }) })

/** Each request has the system prompt, so it is no part of what was said: who opens the conversation finds it again. */
export const keepSystem = (id: string, system: string): Promise<unknown> =>
  call(at(id), {
    method: "PATCH",
    body: JSON.stringify({ metadata: system === "" ? {} : { system: system.slice(0, 12_000) } })
  })

export const exportOf = (id: string): string => `${at(id)}/export?format=markdown`

/** The conversation without what follows so many turns of the page: it goes on in another way. */
export const cut = async (stored: Stored, turns: number): Promise<Stored> => {
  const ends = stored.ends.filter((end) => end <= turns)
  if (stored.id === undefined || ends.length === stored.ends.length) return stored
  const { id } = stored
  if (ends.length === 0) {
    await removeSession(id)
    return unstored
  }
  const copy: { readonly id: string } = await (await post(`${at(id)}/copy`, { turns: ends.length })).json()
  await removeSession(id)
  return { ...stored, id: copy.id, ends }
}

interface Message {
  readonly role: "system" | "developer" | "user" | "assistant" | "tool"
  readonly content:
    | string
    | ReadonlyArray<{
        readonly type: string
        readonly text?: string
        readonly data?: string
        readonly mediaType?: string
      }>
  readonly thinking?: string
  readonly toolCalls?: ReadonlyArray<{ readonly name: string; readonly arguments: unknown }>
}

/** `GET /v1/sessions/{id}`. */
export interface Session {
  readonly id: string
  readonly metadata: { readonly system?: unknown }
  readonly messages: ReadonlyArray<Message>
  readonly turns: ReadonlyArray<{
    readonly message_count: number
    readonly usage: {
      readonly model?: string
      readonly server?: string
      readonly completion_tokens: number | null
    } | null
  }>
}

const textOf = ({ content }: Message): string =>
  typeof content === "string" ? content : content.map(({ text = "" }) => text).join("")

const imagesOf = ({ content }: Message): ReadonlyArray<string> =>
  typeof content === "string"
    ? []
    : content.flatMap(({ data, mediaType = "image/png" }) =>
        data === undefined ? [] : [`data:${mediaType};base64,${data}`]
      )

/** What the page shows of a session. */
export const opened = ({ id, messages, metadata, turns: stored }: Session) => {
  const turns: Array<Turn> = []
  const ends: Array<number> = []
  const system = typeof metadata.system === "string" ? metadata.system : ""
  let from = 0
  for (const { message_count, usage } of stored) {
    for (const message of messages.slice(from, from + message_count)) {
      if (message.role === "user") turns.push({ text: textOf(message), images: imagesOf(message), answers: [] })
      else if (message.role === "assistant") {
        const turn = turns.at(-1) ?? { text: "", images: [], answers: [] }
        const [before = { ...begun, state: "done" as const }] = turn.answers
        const calls = (message.toolCalls ?? []).map(({ arguments: input, name }) => ({
          name,
          input: JSON.stringify(input)
        }))
        const answer = {
          ...before,
          text: before.text + textOf(message),
          thinking: before.thinking + (message.thinking ?? ""),
          calls: [...before.calls, ...calls],
          model: usage?.model ?? "",
          server: usage?.server ?? "",
          tokens: usage?.completion_tokens ?? undefined
        }
        turns.splice(Math.max(0, turns.length - 1), 1, { ...turn, answers: [answer] })
      }
    }
    from += message_count
    ends.push(turns.length)
  }
  const model = stored.at(-1)?.usage?.model
  return { turns, model, stored: { id, ends, system } satisfies Stored }
}
