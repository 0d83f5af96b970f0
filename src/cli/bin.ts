/**
 * The entry point. `--version`, help, and what has to start at once, with its flags in their ordinary form, are handled
 * before the command line is loaded.
 */
import { existsSync } from "node:fs"
import { version } from "../internal/version.js"

const words = process.argv.slice(2)
const [first, ...others] = words

/** What starts at once; `false` if the command line has to read these words. */
const quick: { readonly [command: string]: () => Promise<boolean> } = {
  engine: async () => {
    const { readPlain } = await import("./engine/plainFlags.js")
    const plain = readPlain(others)
    if (plain === undefined || !existsSync(plain.file)) return false
    const { start } = await import("./engine/start.js")
    await start(plain)
    return true
  },
  start: async () => {
    const { beginEarly } = await import("../cortex/earlyEngine.js")
    beginEarly()
    const { readForeground } = await import("./local/plainFlags.js")
    const plain = readForeground(others)
    if (plain === undefined) return false
    const { start } = await import("./local/foreground.js")
    start(plain)
    return true
  },
  run: async () => {
    const { readRun } = await import("./local/plainFlags.js")
    const plain = readRun(others)
    if (plain === undefined) return false
    const { runQuickly } = await import("./local/quick.js")
    return await runQuickly(plain)
  }
}

/** The command whose help is asked for, and nothing else; `undefined` if none is. */
const helpOf = (): ReadonlyArray<string> | undefined => {
  if (first === undefined) return []
  if (first === "help") return others
  return words.at(-1) === "--help" || words.at(-1) === "-h" ? words.slice(0, -1) : undefined
}

/** The help that is asked for; `undefined` if the command line has to read these words. */
const help = async (): Promise<string | undefined> => {
  const command = helpOf()
  if (command === undefined) return undefined
  const [{ pages }, { text }] = await Promise.all([import("./helpPages.js"), import("./help.js")])
  const name = command.join(" ")
  const page = Object.hasOwn(pages, name) ? pages[name] : undefined
  return page === undefined ? undefined : text(command, page)
}

const print = (text: string): void => {
  // A closed pipe is no failure; any other error is.
  process.stdout.on("error", (error) => {
    if ("code" in error && error.code === "EPIPE") return
    process.stderr.write(`aicortex: standard output cannot be written: ${error.message}\n`)
    process.exitCode = 1
  })
  process.stdout.write(text)
}

const text = others.length === 0 && (first === "--version" || first === "-V") ? `${version}\n` : await help()
if (text !== undefined) print(text)
else if (first === undefined || !Object.hasOwn(quick, first) || (await quick[first]?.()) !== true) {
  const { main } = await import("./main.js")
  main(words)
}
