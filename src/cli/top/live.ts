/** The live view: keys, events and the clock lead to a screen. */
import * as Effect from "effect/Effect"
import { type Input, Keyboard } from "../chat/interactive/keyboard.js"
import * as Output from "../output.js"
import type { Client } from "./client.js"
import { Feed } from "./feed.js"
import { Screen } from "./screen.js"
import { TopState } from "./state.js"
import * as Text from "./text.js"
import { type Action, makeUi, press } from "./ui.js"
import { frame } from "./view.js"

export interface LiveOptions {
  readonly client: Client
  /** What is looked at. */
  readonly title: string
  /** Whether there is a gateway to act on. */
  readonly acts: boolean
  /** How often it is drawn, in milliseconds. */
  readonly interval: number
}

const done: { readonly [A in Exclude<Action["type"], "cancel">]: string } = {
  rest: "rests for a minute",
  drain: "gets no new requests",
  wake: "is awake"
}

class Live {
  private readonly state = new TopState()
  private readonly ui = makeUi()
  private readonly screen = new Screen()
  private readonly keyboard = new Keyboard()
  private readonly feed: Feed
  private readonly color = Output.supportsColor(process.stdout)
  private timers: ReadonlyArray<ReturnType<typeof setInterval>> = []
  private page = 1
  private drawn = ""
  private readonly onResize = () => {
    this.screen.forget()
    this.draw()
  }

  constructor(
    private readonly options: LiveOptions,
    private readonly quit: () => void
  ) {
    this.feed = new Feed(options.client, this.state, () => {
      // That the gateway is there, or gone, need not wait for its turn.
      if (this.state.connection.state !== this.drawn) this.draw()
    })
  }

  start(): void {
    this.screen.enter()
    this.keyboard.open()
    process.stdout.on("resize", this.onResize)
    this.timers = [
      setInterval(() => this.state.tick(), 1_000),
      // Times go on, whether something has happened or not.
      setInterval(() => this.draw(), this.options.interval)
    ]
    this.feed.start()
    this.draw()
    this.keyboard.read((input) => {
      this.onInput(input)
      return true
    })
  }

  stop(): void {
    this.feed.stop()
    for (const timer of this.timers) clearInterval(timer)
    process.stdout.off("resize", this.onResize)
    this.keyboard.stopReading()
    this.keyboard.close()
    this.screen.leave()
  }

  private onInput(input: Input): void {
    if (input.type === "key" && input.ctrl && input.name === "z") {
      this.screen.leave()
      this.keyboard.suspend(() => {
        this.screen.enter()
        this.draw()
      })
      return
    }
    if (input.type === "key" && input.ctrl && input.name === "l") this.screen.forget()
    const outcome = press(this.state, this.ui, input, this.page, this.options.acts)
    if (outcome.type === "quit") {
      this.quit()
      return
    }
    if (outcome.type === "act") void this.act(outcome.action)
    this.draw()
  }

  private async act(action: Action): Promise<void> {
    const { client } = this.options
    const what = action.type === "cancel" ? `The request to ${action.what}` : Text.clean(action.server)
    try {
      await (action.type === "cancel" ? client.cancel(action.id) : client.act(action.server, action.type))
      const text = action.type === "cancel" ? `${what} was cancelled.` : `${what} ${done[action.type]}.`
      this.ui.message = { text, bad: false }
      await this.feed.read()
    } catch (error) {
      this.ui.message = { text: `Refused: ${error instanceof Error ? error.message : String(error)}`, bad: true }
    }
    this.draw()
  }

  private draw(): void {
    const { color, screen, state, ui } = this
    const { lines, page } = frame(state, ui, {
      columns: screen.columns,
      rows: screen.rows,
      color,
      title: this.options.title
    })
    this.page = page
    this.drawn = state.connection.state
    screen.draw(lines)
  }
}

/** Runs until the user quits. */
export const live = (options: LiveOptions): Effect.Effect<void> =>
  Effect.async((resume) => {
    const view = new Live(options, () => {
      view.stop()
      resume(Effect.void)
    })
    view.start()
    return Effect.sync(() => view.stop())
  })
