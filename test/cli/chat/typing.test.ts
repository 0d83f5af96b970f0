import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { useChats } from "../../support/chatTerminal.js"
import { hasTerminals, type Terminal } from "../../support/terminal.js"

const chats = useChats()

const enter = "\r"
const escape = "\u001b"
const ctrl = (letter: string) => String.fromCharCode(letter.toUpperCase().charCodeAt(0) - 64)
const up = `${escape}[A`
const down = `${escape}[B`

/** The messages of the only conversation of this test, once its terminal has ended. */
const said = async (): Promise<ReadonlyArray<{ readonly role: string; readonly content: string }>> => {
  const [only, ...others] = JSON.parse((await chats.run(["sessions", "--json"])).stdout)
  expect(others).toEqual([])
  return only === undefined
    ? []
    : JSON.parse((await chats.run(["sessions", "show", only.id, "--json"])).stdout).messages
}

const questions = async () => (await said()).flatMap(({ content, role }) => (role === "user" ? [content] : []))

const leave = async (terminal: Terminal) => {
  terminal.type(ctrl("d"))
  expect(await terminal.ended).toBe(0)
}

/** Whether the last line is a prompt with nothing typed. */
const isPrompt = (screen: string) => /aicortex-demo> Send a message \(\/help for help\)$/.test(screen)

const script = (name: string, text: string): string => {
  const file = join(chats.folder(), name)
  writeFileSync(file, `#!/bin/sh\n${text}\n`)
  chmodSync(file, 0o700)
  return file
}

describe.runIf(hasTerminals)("a message that is typed on a terminal", { timeout: 180_000 }, () => {
  it("shows the model's name as its prompt, and a placeholder while it is empty", async () => {
    const terminal = await chats.chat()
    await terminal.shows(isPrompt)
    expect(terminal.column()).toBe("aicortex-demo> ".length)
    terminal.type("H")
    await terminal.shows(/aicortex-demo> H$/)
    terminal.type("\u007f")
    await terminal.shows(isPrompt)
    await leave(terminal)
  })

  it.each([
    ["line feeds", "What is the\ncapital of France?\n\nIn one word."],
    ["carriage returns, as terminals send them", "What is the\rcapital of France?\r\rIn one word."],
    ["both", "What is the\r\ncapital of France?\r\n\r\nIn one word."]
  ])("is pasted as one message, with %s", async (_, text) => {
    const terminal = await chats.chat()
    terminal.paste(text)
    await terminal.shows("In one word.")
    // Nothing was sent by the line breaks: there is one prompt.
    expect(terminal.screen().split("aicortex-demo>").length).toBe(2)
    terminal.type(enter)
    await terminal.shows(isPrompt)
    await leave(terminal)
    expect(await questions()).toEqual(["What is the\ncapital of France?\n\nIn one word."])
  })

  it("is pasted without control sequences, and a pasted command within it is text", async () => {
    const terminal = await chats.chat()
    terminal.paste("first\n/exit\n\u001b]0;owned\u0007last\u0000\u202e")
    await terminal.shows("last")
    terminal.type(enter)
    await terminal.shows(isPrompt)
    await leave(terminal)
    expect(await questions()).toEqual(["first\n/exit\n]0;ownedlast"])
    for (const hostile of ["\u001b]0;", "\u202e", "\u0000"]) expect(terminal.output()).not.toContain(hostile)
  })

  it('stands between """ and """ on as many lines as it needs', async () => {
    const terminal = await chats.chat()
    terminal.type(`"""What is${enter}`)
    // The cursor stands on the next line, below the first one.
    await terminal.shows((screen) => screen.endsWith('"""What is') && terminal.column() === "aicortex-demo> ".length)
    terminal.type(`the capital${enter}of France?"""${enter}`)
    await terminal.shows(isPrompt)
    terminal.type(`"""one line"""${enter}`)
    await terminal.shows((screen) => isPrompt(screen) && screen.includes("one line"))
    // Code that begins so is no block.
    terminal.paste('"""Docs."""\nimport os')
    terminal.type(enter)
    await terminal.shows((screen) => isPrompt(screen) && screen.includes("import os"))
    await leave(terminal)
    expect(await questions()).toEqual(["What is\nthe capital\nof France?", "one line", '"""Docs."""\nimport os'])
  })

  it("continues after a \\, Alt-Enter and Ctrl-J", async () => {
    const terminal = await chats.chat()
    terminal.type(`one\\${enter}two${escape}${enter}three${ctrl("j")}four \\ five`)
    await terminal.shows("four \\ five")
    terminal.type(enter)
    await terminal.shows(isPrompt)
    await leave(terminal)
    expect(await questions()).toEqual(["one\ntwo\nthree\nfour \\ five"])
  })

  it("is edited in $EDITOR with Ctrl-G, starting from the draft", async () => {
    const editor = script("editor", 'cp "$2" "$1/draft"; printf "\\nof France?\\n" >> "$2"')
    const terminal = await chats.chat(undefined, {
      env: { EDITOR: `${editor} ${chats.folder()}`, VISUAL: "" }
    })
    terminal.type(`What is the capital${ctrl("g")}`)
    await terminal.shows("of France?")
    expect(readFileSync(join(chats.folder(), "draft"), "utf8")).toBe("What is the capital")
    // It can be edited on, and is sent with Enter.
    terminal.type(` Please.${enter}`)
    await terminal.shows(isPrompt)
    await leave(terminal)
    expect(await questions()).toEqual(["What is the capital\nof France? Please."])
  })

  it("is unchanged if the editor fails", async () => {
    const terminal = await chats.chat(undefined, { env: { VISUAL: script("editor", "exit 3") } })
    terminal.type(`kept${ctrl("g")}`)
    await terminal.shows(/the editor `.*` failed \(exit code\s+3\)\naicortex-demo> kept$/)
    terminal.type(`!${enter}`)
    await terminal.shows(isPrompt)
    await leave(terminal)
    expect(await questions()).toEqual(["kept!"])
  })

  it("is edited with the keys of readline, with correct cursor positions for wide characters", async () => {
    const terminal = await chats.chat()
    terminal.type(`漢字 two three${ctrl("w")}${ctrl("a")}${escape}f${ctrl("k")}${ctrl("u")}`)
    terminal.type(`${ctrl("y")} 👩‍💻é`)
    await terminal.shows("漢字 👩‍💻é")
    // Left over a whole emoji and a letter, then over the space.
    terminal.type(`${escape}[D${escape}[D${escape}[D-`)
    await terminal.shows("漢字- 👩‍💻é")
    expect(terminal.column()).toBe("aicortex-demo> ".length + 5)
    terminal.type(`${ctrl("_")}${ctrl("e")}.`)
    await terminal.shows("漢字 👩‍💻é.")
    terminal.type(enter)
    await terminal.shows(isPrompt)
    await leave(terminal)
    expect(await questions()).toEqual(["漢字 👩‍💻é."])
  })

  it("wraps at the terminal's width, and again when that changes", async () => {
    const terminal = await chats.chat(undefined, { columns: 40 })
    const words = "one two three four five six seven eight nine ten"
    terminal.type(words)
    await terminal.shows("ten")
    terminal.resize(30)
    terminal.type("!")
    await terminal.shows(
      (screen) =>
        screen.replace(/\s+/g, "") === `aicortex-demo>${words.replaceAll(" ", "")}!` &&
        screen.split("\n").every((line) => line.length < 30)
    )
    terminal.resize(100)
    terminal.type("?")
    await terminal.shows(new RegExp(`aicortex-demo> ${words}!\\?$`))
    await leaveAfterClear(terminal)
  })

  it("may be longer than the screen", async () => {
    const terminal = await chats.chat(undefined, { rows: 8 })
    const lines = Array.from({ length: 30 }, (_, at) => `line ${at}.`)
    terminal.paste(lines.join("\n"))
    await terminal.shows("line 29.")
    terminal.type(enter)
    await terminal.shows(isPrompt)
    await leave(terminal)
    expect(await questions()).toEqual([lines.join("\n")])
    for (const line of lines)
      expect(
        terminal
          .screen()
          .split("\n")
          .filter((one) => one.trim().endsWith(line)).length
      ).toBe(1)
  })
})

const leaveAfterClear = async (terminal: Terminal) => {
  terminal.type(ctrl("c"))
  await terminal.shows(isPrompt)
  await leave(terminal)
}

describe.runIf(hasTerminals)("Ctrl-C, Ctrl-D and Tab at the prompt", { timeout: 180_000 }, () => {
  it("Ctrl-C clears the draft, then says how to quit; Ctrl-D quits", async () => {
    const terminal = await chats.chat()
    terminal.type("never sent")
    await terminal.shows("never sent")
    terminal.type(ctrl("c"))
    await terminal.shows((screen) => isPrompt(screen) && !screen.includes("never sent"))
    expect(terminal.screen()).not.toContain("to leave")
    terminal.type(ctrl("c"))
    await terminal.shows(/to leave, press Ctrl-D or type \/exit\naicortex-demo> /)
    // Ctrl-D deletes a character before it leaves.
    terminal.type(`ab${escape}[D${ctrl("d")}`)
    await terminal.shows(/aicortex-demo> a$/)
    terminal.type(ctrl("c"))
    await terminal.shows(isPrompt)
    await leave(terminal)
    expect((await chats.run(["sessions", "--json"])).stdout).toBe("[]\n")
    // The shell gets its terminal back.
    expect(terminal.output().trimEnd().endsWith("\u001b[?2004l")).toBe(true)
  })

  it("Ctrl-Z continues at once if no shell could continue the process", async () => {
    const terminal = await chats.chat()
    terminal.type(`before${ctrl("z")}`)
    // It has taken the terminal for the second time.
    await terminal.shows(() => terminal.output().split(`${escape}[?2004h`).length === 3)
    terminal.type(" and after")
    await terminal.shows(/> before and after$/)
    await leaveAfterClear(terminal)
  })

  it("Tab completes commands and their arguments", async () => {
    const terminal = await chats.chat()
    terminal.type("/he\t")
    await terminal.shows(/> \/help$/m)
    terminal.type(`${ctrl("u")}/s\t`)
    await terminal.shows(/system {2}set {2}show {2}save {2}stats\naicortex-demo> \/s$/)
    terminal.type(`${ctrl("u")}/set markd\tof\t`)
    await terminal.shows(/> \/set markdown off$/m)
    terminal.type(`${ctrl("u")}/model aico\t`)
    await terminal.shows(/> \/model aicortex-demo$/m)
    terminal.type(enter)
    await terminal.shows("aicortex-demo answers from now on")
    await leave(terminal)
  })
})

describe.runIf(hasTerminals)("input during an answer", { timeout: 180_000 }, () => {
  it("does not disturb the answer, and appears in the next prompt", async () => {
    const terminal = await chats.chat(["--model", "aicortex-demo", "--temperature", "0"])
    // Both arrive at once, so the second is typed ahead.
    terminal.type(`What is the capital of France?${enter}typed ahead`)
    await terminal.shows(/aicortex-demo> typed ahead$/)
    expect(terminal.screen()).toMatch(
      /> What is the capital of France\?\nThe capital of France is Paris\.\naicortex-demo> typed ahead$/
    )
    // Nothing of it was shown before.
    expect(terminal.output().split("yped ahead").length).toBe(2)
    expect(terminal.output().indexOf("yped ahead")).toBeGreaterThan(terminal.output().indexOf("Paris."))
    await leaveAfterClear(terminal)
  })

  it("is sent if it ends with Enter, and a paste is one message, too", async () => {
    const terminal = await chats.chat(["--model", "aicortex-demo", "--temperature", "0"])
    terminal.type(`first${enter}second${enter}${escape}[200~third\nand more${escape}[201~${enter}`)
    await terminal.shows((screen) => isPrompt(screen) && screen.includes("and more"))
    await leave(terminal)
    expect(await questions()).toEqual(["first", "second", "third\nand more"])
  })
})

describe.runIf(hasTerminals)("the history of messages", { timeout: 180_000 }, () => {
  const file = () => join(chats.folder(), "state", "aicortex", "chat-history.jsonl")

  it("is recalled with Up, also in a later run, as it was typed", async () => {
    const first = await chats.chat()
    first.paste("several\nlines")
    first.type(`${enter}`)
    await first.shows((screen) => isPrompt(screen) && screen.includes("lines"))
    first.type(`/stats${enter}`)
    await first.shows("last answer")
    await leave(first)
    expect(statSync(file()).mode & 0o777).toBe(0o600)
    const second = await chats.chat()
    second.type(`draft${up}`)
    await second.shows(/> \/stats$/m)
    second.type(up)
    await second.shows(/> several\n\s+lines$/)
    // Within its lines the arrows move; then they go on.
    second.type(`${down}${down}`)
    await second.shows(/> draft$/m)
    await leaveAfterClear(second)
  })

  it("is bounded, and a partial line does no harm", async () => {
    mkdirSync(join(chats.folder(), "state", "aicortex"), { recursive: true })
    const old = Array.from({ length: 2_500 }, (_, at) => `${JSON.stringify(`entry ${at}`)}\n`).join("")
    writeFileSync(file(), `${old}"broken\n`, { mode: 0o644 })
    const terminal = await chats.chat()
    terminal.type(up)
    await terminal.shows(/> entry 2499$/m)
    terminal.type(`${ctrl("c")}/stats${enter}`)
    await terminal.shows("no answer yet")
    await leave(terminal)
    const lines = readFileSync(file(), "utf8").trimEnd().split("\n")
    expect(lines.length).toBeLessThanOrEqual(1_001)
    expect(lines.at(-1)).toBe('"/stats"')
    expect(statSync(file()).mode & 0o777).toBe(0o600)
  })

  it("is lost if it cannot be stored, and the conversation continues", async () => {
    mkdirSync(file(), { recursive: true })
    const terminal = await chats.chat()
    await terminal.shows("the history")
    terminal.type(`/stats${enter}`)
    await terminal.shows("no answer yet")
    terminal.type(up)
    await terminal.shows(/> \/stats$/m)
    await leaveAfterClear(terminal)
  })
})
