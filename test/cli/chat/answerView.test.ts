import { Terminal as Emulator } from "@xterm/headless"
import width from "string-width"
import { describe, expect, it } from "vitest"
import { AnswerView } from "../../../src/cli/chat/interactive/answerView.js"
import { markdown, type Painter, plain } from "../../../src/cli/chat/interactive/markdown.js"

/** A view on an emulated terminal. */
const open = (painter: Painter, columns = 40, rows = 12) => {
  const emulator = new Emulator({
    cols: columns,
    rows,
    scrollback: 10_000,
    allowProposedApi: true,
    reflowCursorLine: true
  })
  let written = ""
  const view = new AnswerView(
    {
      columns: () => emulator.cols,
      rows: () => emulator.rows,
      write: (text) => {
        written += text
        emulator.write(text)
      }
    },
    painter
  )
  const screen = async () => {
    await new Promise<void>((resolve) => emulator.write("", resolve))
    const { active } = emulator.buffer
    const lines = Array.from({ length: active.length }, (_, at) => active.getLine(at)?.translateToString(true) ?? "")
    return lines.join("\n").trimEnd()
  }
  return { view, emulator, screen, written: () => written }
}

/** A generator that gives the same numbers for the same seed. */
const random = (seed: number) => () => {
  seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648
  return seed / 2_147_483_648
}

const pieces = (text: string, next: () => number): ReadonlyArray<string> => {
  const characters = [...text]
  const all: Array<string> = []
  while (characters.length > 0) all.push(characters.splice(0, 1 + Math.floor(next() * 12)).join(""))
  return all
}

const visible = (painter: Painter, text: string, columns: number) =>
  painter(text, columns - 1)
    .flatMap(({ lines }) => lines)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are removed.
    .map((line) => line.replace(/\u001b\[[0-9;]*m/g, "").trimEnd())
    .join("\n")
    .trimEnd()

const texts = {
  prose: "The sky is blue because air scatters **short wavelengths** most, and `sunset` is red.\n\nThat is all of it.",
  list: "# Plan\n\n- first *item* that is so long that it has to be broken\n  - nested one\n- second\n\n1. one\n2. two\n\n3. three",
  code: "Look:\n\n```ts\nconst a = 1 // a comment that is longer than the terminal is wide\n\n  if (a) b()\n```\n\nDone.",
  table: "| name | size |\n|---|--:|\n| llama | 3b |\n| 汉字模型 | 70b |\n\nand so on",
  wide: "这是一个很长的中文段落用来测试终端里的换行是否正确因为每个字都占两个格子。 Then 👩‍💻 and 🇫🇷 and é.",
  quote: "> quoted text that wraps at the end of a narrow terminal\n\n---\n\nHeading\n=======\ntext",
  lines: "one\ntwo\n\n\nthree   \nfour",
  long: Array.from({ length: 60 }, (_, at) => `- entry ${at} of a list that is longer than the screen`).join("\n")
}

describe.each(Object.entries(texts))("an answer with %s", (_, text) => {
  it.each([
    ["Markdown", markdown(true)],
    ["Markdown without colours", markdown(false)],
    ["text", plain]
  ])("renders the same in pieces of any size, as %s", async (_, painter) => {
    for (let seed = 1; seed <= 5; seed++) {
      const next = random(seed)
      const columns = [24, 40, 80][seed % 3] ?? 40
      const { screen, view } = open(painter, columns, 200)
      for (const piece of pieces(text, next)) {
        view.push(piece)
        if (next() < 0.7) view.flush()
      }
      view.end()
      expect(await screen()).toBe(visible(painter, text, columns))
    }
  })

  it("has no line that is wider than the terminal", () => {
    for (const columns of [20, 33, 80]) {
      for (const line of visible(markdown(true), text, columns).split("\n")) expect(width(line)).toBeLessThan(columns)
    }
  })
})

describe("an answer that is longer than the screen", () => {
  it("prints each line once, although scrolled lines cannot be changed", async () => {
    const { screen, view } = open(markdown(true), 80, 8)
    for (const piece of pieces(texts.long, random(3))) {
      view.push(piece)
      view.flush()
    }
    view.end()
    const shown = await screen()
    for (let at = 0; at < 60; at++) expect(shown.split(`entry ${at} of`).length).toBe(2)
  })

  it("regression: a long answer is not rendered again for each token", () => {
    const { view } = open(markdown(true), 80, 24)
    const began = process.cpuUsage()
    for (let at = 0; at < 20_000; at++) view.push(at % 8 === 7 ? "\n" : "token ")
    view.end()
    const { system, user } = process.cpuUsage(began)
    // About 0.3 s; made anew for each token it takes minutes.
    expect((system + user) / 1e6).toBeLessThan(10)
  })
})

describe("a notice in the middle of an answer", () => {
  it.each([3, 12, 30])("is on its own line, and the text is complete (after %i characters)", async (at) => {
    const { screen, view } = open(markdown(true), 40)
    const text = "The sky is **blue** because air scatters short wavelengths."
    view.push(text.slice(0, at))
    view.insert("aicortex: gpu-1 failed; gpu-2 goes on")
    view.push(text.slice(at))
    view.end()
    expect(await screen()).toBe(`aicortex: gpu-1 failed; gpu-2 goes on\n${visible(markdown(true), text, 40)}`)
  })

  it("leaves finished blocks unchanged", async () => {
    const { screen, view } = open(markdown(true), 40)
    view.push("one\n\ntwo")
    view.insert("notice")
    view.push(" and three")
    view.end()
    expect(await screen()).toBe("one\n\nnotice\ntwo and three")
  })
})

describe("a terminal that is resized in the middle of an answer", () => {
  it.each([
    [60, 30],
    [30, 60]
  ])("breaks no word and loses none, from %i to %i columns", async (from, to) => {
    const words = Array.from({ length: 60 }, (_, at) => `word${at}`)
    const { emulator, screen, view } = open(markdown(true), from, 30)
    for (const [at, word] of words.entries()) {
      if (at === 25) emulator.resize(to, 30)
      view.push(`${at === 0 ? "" : " "}${word.slice(0, 3)}`)
      view.flush()
      view.push(word.slice(3))
    }
    view.end()
    const shown = await screen()
    // The terminal itself breaks lines that were shown before.
    expect(shown.replace(/\s+/g, "")).toBe(words.join(""))
    const later = shown.slice(shown.indexOf("word27")).split(/\s+/)
    expect(later).toEqual(words.slice(27))
    const lengths = shown.split("\n").map((line) => line.length)
    expect(Math.max(...lengths.slice(-4))).toBeGreaterThan(to - 10)
    expect(Math.max(...lengths.slice(-4))).toBeLessThan(to)
  })

  it("continues within a code block", async () => {
    const { emulator, screen, view } = open(markdown(true), 60)
    view.push("```js\nlet a = 1\nlet b")
    view.flush()
    emulator.resize(40, 12)
    view.push(" = 2\n  let **c** = 3\n```\n\nand **text**")
    view.end()
    expect(await screen()).toBe("```js\nlet a = 1\nlet b = 2\n  let **c** = 3\n```\n\nand text")
  })
})

describe("output of a model", () => {
  it.each([
    ["a title", "\u001b]0;owned\u0007"],
    ["a clipboard", "\u001b]52;c;eA==\u001b\\"],
    ["colours and cursor", "\u001b[31m\u001b[2J\u001b[1;1H"],
    ["C1", "\u009b2J\u009d0;owned\u009c"],
    ["NUL and backspace", "\u0000\b\b\b"],
    ["a carriage return", "safe\roverwritten"],
    ["bidi", "\u202e\u2066evil\u2069\u202c"],
    ["tags", "a\u{e0041}\u{e007f}b"]
  ])("cannot control the terminal: %s", async (_, text) => {
    for (const painter of [markdown(true), plain]) {
      const { view, written } = open(painter)
      // In pieces, and within all that is formatted.
      for (const piece of `before ${text} **${text}** \`${text}\` [${text}](${text})\n\n    ${text}\n\nafter`)
        view.push(piece)
      view.end()
      // biome-ignore lint/suspicious/noControlCharactersInRegex: our own sequences are removed.
      const rest = written().replace(/\u001b\[(\d*(;\d+)*m|\d*A|J|\?2026[hl])|\r\n|\r(?=\u001b\[J)/g, "")
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they must not be there.
      expect(rest).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]|\u{e0041}/u)
      expect(rest).toContain("after")
    }
  })
})
