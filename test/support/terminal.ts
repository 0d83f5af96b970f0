import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { Terminal as Emulator } from "@xterm/headless"

const helper = fileURLToPath(new URL("./pseudoTerminal.py", import.meta.url))

/** Whether programs can be run on a terminal here: only Python makes one without a native package. */
export const hasTerminals: boolean = spawnSync("python3", ["-c", "import pty, termios"]).status === 0

if (!hasTerminals) {
  process.stderr.write(
    "\n!!! SKIPPED: python3 is missing, so nothing is tested on a terminal. Install it: apt-get install python3 !!!\n\n"
  )
}

/** A program on a terminal that is emulated: what counts is what a person sees. */
export interface Terminal {
  /** Everything above and on the screen, without white space at the ends of lines. */
  readonly screen: () => string
  /** Every byte that the program has written. */
  readonly output: () => string
  /** Where the cursor stands on the screen: its column. */
  readonly column: () => number
  readonly type: (text: string) => void
  /** As a terminal pastes that was asked to mark what is pasted. */
  readonly paste: (text: string) => void
  readonly resize: (columns: number, rows?: number) => void
  /** Waits until the screen shows it; fails where the program ends before. */
  readonly shows: (wanted: string | RegExp | ((screen: string) => boolean)) => Promise<void>
  /** Waits until the program has ended, and returns its exit code. */
  readonly ended: Promise<number | null>
  readonly stop: () => void
}

export interface TerminalOptions {
  readonly env: NodeJS.ProcessEnv
  readonly columns?: number
  readonly rows?: number
}

/** A failure tells what the screen showed. Long enough for a slow and busy machine. */
const timeout = 60_000

const matches = (wanted: Parameters<Terminal["shows"]>[0], screen: string): boolean =>
  typeof wanted === "string" ? screen.includes(wanted) : wanted instanceof RegExp ? wanted.test(screen) : wanted(screen)

export const startTerminal = (
  command: ReadonlyArray<string>,
  { columns = 80, env, rows = 24 }: TerminalOptions
): Terminal => {
  const emulator = new Emulator({
    cols: columns,
    rows,
    scrollback: 10_000,
    allowProposedApi: true,
    reflowCursorLine: true
  })
  const child: ChildProcess = spawn("python3", [helper, String(columns), String(rows), ...command], {
    env,
    stdio: ["pipe", "pipe", "inherit"]
  })
  const waiting = new Set<() => void>()
  const notify = () => {
    for (const check of [...waiting]) check()
  }
  let output = ""
  let hasEnded = false
  const decoder = new TextDecoder()
  child.stdout?.on("data", (bytes: Buffer) => {
    output += decoder.decode(bytes, { stream: true })
    emulator.write(bytes, notify)
  })
  const ended = new Promise<number | null>((resolve) => {
    child.on("close", (code) =>
      // What was written last is shown first.
      emulator.write("", () => {
        hasEnded = true
        notify()
        resolve(code)
      })
    )
  })
  // The program may have ended before what is typed for it.
  child.stdin?.on("error", () => {})
  const send = (message: unknown) => void child.stdin?.write(`${JSON.stringify(message)}\n`)

  const screen = () => {
    const { active } = emulator.buffer
    const lines: Array<string> = []
    for (let at = 0; at < active.length; at++) lines.push(active.getLine(at)?.translateToString(true) ?? "")
    return lines.join("\n").trimEnd()
  }

  return {
    screen,
    output: () => output,
    column: () => emulator.buffer.active.cursorX,
    type: (text) => send({ type: text }),
    paste: (text) => send({ type: `\u001b[200~${text}\u001b[201~` }),
    resize: (columns, rows = emulator.rows) => {
      emulator.resize(columns, rows)
      send({ size: [columns, rows] })
    },
    shows: (wanted) =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(() => end(new Error(`${String(wanted)} is not shown:\n${screen()}`)), timeout)
        const end = (error?: Error) => {
          clearTimeout(timer)
          waiting.delete(check)
          if (error === undefined) resolve()
          else reject(error)
        }
        const check = () => {
          if (matches(wanted, screen())) end()
          else if (hasEnded) end(new Error(`it ended before it showed ${String(wanted)}:\n${screen()}`))
        }
        waiting.add(check)
        check()
      }),
    ended,
    stop: () => {
      child.stdin?.end()
      child.kill()
      emulator.dispose()
    }
  }
}
