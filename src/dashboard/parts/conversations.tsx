import { useLayoutEffect, useRef, useState } from "preact/hooks"
import { href } from "../api"
import * as Format from "../format"
import { gatewayTime } from "../store"
import { useActions } from "./acting"
import * as Conversation from "./conversation"
import { useData } from "./data"
import { Empty, Problem } from "./small"

interface Summary {
  readonly id: string
  readonly title: string | null
  readonly opening: string | null
  readonly used_at: number
  readonly message_count: number
}

const nameOf = ({ opening, title }: Summary): string => Format.harmless(title ?? opening ?? "").slice(0, 120) || "Empty"

const Rename = ({ close, of }: { readonly of: Summary; readonly close: (title?: string) => void }) => {
  const [title, setTitle] = useState(of.title ?? "")
  const input = useRef<HTMLInputElement>(null)
  useLayoutEffect(() => input.current?.select(), [])
  return (
    <form
      class="row"
      onSubmit={(event) => {
        event.preventDefault()
        close(title)
      }}
    >
      <input
        aria-label={`Title of ${nameOf(of)}`}
        maxLength={200}
        value={title}
        ref={input}
        onInput={(event) => setTitle(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") close()
        }}
      />
      <button type="submit" class="small primary">
        Save
      </button>
    </form>
  )
}

/** What was said before: opened, renamed, exported, deleted. */
export const Conversations = ({
  current,
  open,
  removed,
  turn
}: {
  readonly current: string | undefined
  readonly open: (id: string) => void
  readonly removed: (id: string) => void
  /** Another one has it read again. */
  readonly turn: number
}) => {
  const data = useData<{ readonly data: ReadonlyArray<Summary> }>(`/v1/sessions?limit=200`, undefined, turn)
  const [filter, setFilter] = useState("")
  const [renaming, setRenaming] = useState("")
  const { act, told } = useActions(data.reload)
  // What was said is not sent in addresses: the page looks through the titles itself.
  const words = filter.trim().toLowerCase()
  const all = (data.value?.data ?? []).filter((one) => `${one.title} ${one.opening}`.toLowerCase().includes(words))
  const remove = (one: Summary) => {
    if (!confirm(`Delete the conversation "${nameOf(one)}"?`)) return
    act("The conversation is deleted", async () => {
      await Conversation.removeSession(one.id)
      removed(one.id)
    })
  }
  return (
    <aside class="card conversations" aria-label="Conversations">
      <h2>Conversations</h2>
      <input
        type="search"
        aria-label="Filter conversations"
        placeholder="Title"
        value={filter}
        onInput={(event) => setFilter(event.currentTarget.value)}
      />
      {told}
      <Problem of={data.problem} />
      {data.value === undefined ? null : all.length === 0 ? (
        <Empty>{words === "" ? "None yet." : "None fits."}</Empty>
      ) : (
        <ul>
          {all.map((one) => (
            <li key={one.id} class={one.id === current ? "current" : ""}>
              {renaming === one.id ? (
                <Rename
                  of={one}
                  close={(title) => {
                    setRenaming("")
                    if (title !== undefined)
                      act("The conversation is renamed", () => Conversation.rename(one.id, title))
                  }}
                />
              ) : (
                <button
                  type="button"
                  class="quiet open"
                  aria-current={one.id === current ? "true" : undefined}
                  onClick={() => open(one.id)}
                >
                  <bdi>{nameOf(one)}</bdi>
                </button>
              )}
              <div class="row small dim">
                <span>
                  {one.message_count} messages, {Format.span(one.used_at * 1_000, gatewayTime())} ago
                </span>
                <span class="push" />
                <button
                  type="button"
                  class="quiet small"
                  aria-label={`Rename ${nameOf(one)}`}
                  onClick={() => setRenaming(one.id)}
                >
                  Rename
                </button>
                <a
                  class="button quiet small"
                  download="conversation.md"
                  aria-label={`Export ${nameOf(one)}`}
                  href={href(Conversation.exportOf(one.id))}
                >
                  Export
                </a>
                <button
                  type="button"
                  class="quiet small danger"
                  aria-label={`Delete ${nameOf(one)}`}
                  onClick={() => remove(one)}
                >
                  Delete
                </button>
              </div>
            </li>
          ))}
        </ul>
      )}
    </aside>
  )
}
