/** The commands of the interactive chat: their help and their completions come from one table. */
import * as Effect from "effect/Effect"
import { suggestion } from "../../commandLine.js"
import { CommandFailed } from "../../errors.js"
import { type Command, split } from "./command.js"
import type { Conversation } from "./conversation.js"
import { listing } from "./listing.js"
import * as Model from "./modelCommands.js"
import * as Session from "./sessionCommands.js"

const help: Command = {
  name: "help",
  aliases: ["?"],
  takes: "[COMMAND]",
  about: "Show the commands and keys, or what one command does.",
  complete: (words) => Effect.succeed(words.length > 1 ? [] : names()),
  run: Effect.fnUntraced(function* (argument, _, print) {
    if (argument === "") return yield* print(helpText())
    const command = yield* find(argument.replace(/^\//, ""))
    const aliases = command.aliases === undefined ? "" : ` Also /${command.aliases.join(", /")}.`
    yield* print(`${usageOf(command)}\n  ${command.about}${aliases}`)
  })
}

const exit: Command = {
  name: "exit",
  aliases: ["quit", "bye"],
  about: "Leave.",
  run: (_, conversation) =>
    Effect.sync(() => {
      conversation.next = { type: "leave" }
    })
}

const table: ReadonlyArray<Command> = [
  help,
  Model.model,
  Model.system,
  Model.set,
  Model.show,
  Session.save,
  Session.load,
  Session.list,
  Session.fresh,
  Session.clear,
  Session.retry,
  Model.stats,
  Session.image,
  exit
]

const names = (): ReadonlyArray<string> => table.map(({ name }) => name)

const keys: ReadonlyArray<readonly [keys: string, about: string]> = [
  ["Enter", 'Send. Within an open """ block, or behind a \\, it begins a new line; so do Alt-Enter and Ctrl-J.'],
  ["Ctrl-C", "Stop the answer; else clear what is typed."],
  ["Ctrl-D", "Leave."],
  ["Ctrl-G", "Write the message in $VISUAL or $EDITOR."],
  ["Ctrl-L", "Clear the screen."],
  ["Ctrl-Z", "Suspend."],
  ["Tab", "Complete a command, or what it takes."],
  ["Up, Down", "Messages that were sent before."]
]

const usageOf = ({ name, takes }: Command): string => `/${name}${takes === undefined ? "" : ` ${takes}`}`

const helpText = (): string => listing([...table.map((command) => [usageOf(command), command.about] as const), ...keys])

const find = (name: string): Effect.Effect<Command, CommandFailed> =>
  Effect.suspend(() => {
    const found = table.find((command) => command.name === name || command.aliases?.includes(name))
    if (found !== undefined) return Effect.succeed(found)
    const near = suggestion(name, names())
    const hint = "see /help, or put a space before it to send it"
    return Effect.fail(new CommandFailed({ message: `unknown command '/${name}'${near}; ${hint}` }))
  })

/** Words that end a conversation without a slash, as in other programs. */
const leaves: ReadonlySet<string> = new Set(["exit", "quit", "exit()"])

/** The command of a line, and what it takes; `undefined` if it is a question. */
export const commandOf = (line: string): { readonly name: string; readonly argument: string } | undefined =>
  leaves.has(line.trim()) ? { name: exit.name, argument: "" } : split(line)

export const run = (
  { argument, name }: { readonly name: string; readonly argument: string },
  conversation: Conversation,
  print: (text: string) => Effect.Effect<void>
) =>
  Effect.flatMap(find(name), (command) =>
    argument !== "" && command.takes === undefined
      ? Effect.fail(new CommandFailed({ message: `/${command.name} takes nothing, but was given '${argument}'` }))
      : command.run(argument, conversation, print)
  )

/** What the last word of a line may be completed to, and where that word begins. */
export const complete = Effect.fnUntraced(function* (before: string, conversation: Conversation) {
  const none = { from: before.length, candidates: [] as ReadonlyArray<string> }
  if (!/^\/\S/.test(before) && before !== "/") return none
  const words = before.slice(1).split(/\s+/)
  const last = words.at(-1) ?? ""
  const from = before.length - last.length
  const fits = (candidates: ReadonlyArray<string>) => candidates.filter((candidate) => candidate.startsWith(last))
  if (words.length === 1) return { from, candidates: fits(names()) }
  const command = table.find(({ aliases, name }) => name === words[0] || aliases?.includes(words[0] ?? ""))
  const found = yield* command?.complete?.(words.slice(1), conversation) ?? Effect.succeed([])
  return { from, candidates: fits(found) }
})
