/** What an engine evaluates of a conversation that it has answered before, as it reports to its clients. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import OpenAI from "openai"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { defaultModelPath } from "../../src/backend/embedded.js"
import { bin, build } from "../support/cliProcess.js"

type Message = OpenAI.ChatCompletionMessageParam

let stop = (): void => {}
let client: OpenAI

beforeAll(async () => {
  build()
  const args = [bin, "engine", defaultModelPath(), "--port", "0", "--name", "m", "--ctx", "2048", "--parallel", "4"]
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] })
  stop = () => child.kill()
  const [line] = await once(createInterface({ input: child.stdout }), "line")
  client = new OpenAI({ baseURL: `${JSON.parse(line).url}/v1`, apiKey: "none" })
}, 120_000)

afterAll(() => stop())

const ask = async (messages: ReadonlyArray<Message>) => {
  const { choices, usage } = await client.chat.completions.create({
    model: "m",
    messages: [...messages],
    temperature: 0,
    max_tokens: 12
  })
  return {
    text: choices[0]?.message.content ?? "",
    prompt: usage?.prompt_tokens ?? 0,
    completion: usage?.completion_tokens ?? 0,
    cached: usage?.prompt_tokens_details?.cached_tokens ?? 0
  }
}

const history = (name: string): Array<Message> => [
  { role: "system", content: `You help ${name}.` },
  { role: "user", content: `${name} went to the river and back. `.repeat(60) }
]

describe("the prompt cache of an engine", () => {
  it("four alternating conversations: each turn evaluates only its new tokens", { timeout: 120_000 }, async () => {
    const names = ["Zara", "Milo", "Ada", "Otto"]
    const talks = names.map(history)
    const before = new Map<string, number>()
    for (let turn = 0; turn < 3; turn++) {
      for (const [i, name] of names.entries()) {
        const talk = talks[i] ?? []
        const { cached, completion, prompt, text } = await ask(talk)
        const known = before.get(name)
        // The end of an answer and the last token before it may have to be evaluated again.
        if (known !== undefined) assert.isAtLeast(cached, known - 2, `${name}, turn ${turn}`)
        else assert.isBelow(cached, 20)
        assert.isBelow(cached, prompt)
        before.set(name, prompt + completion)
        talk.push({ role: "assistant", content: text }, { role: "user", content: `And then, ${turn}?` })
      }
    }
    assert.isAbove(Math.min(...before.values()), 500)
  })

  it("a changed history is evaluated from the change on", async () => {
    const talk = history("Nora")
    const first = await ask(talk)
    assert.strictEqual((await ask(talk)).cached, first.prompt - 1)
    const middle = `${"Nora went to the river and back. ".repeat(30)}Stop. ${"Nora went to the river and back. ".repeat(30)}`
    const changed = await ask([talk[0] as Message, { role: "user", content: middle }])
    assert.isAbove(changed.cached, first.prompt * 0.4)
    assert.isBelow(changed.cached, first.prompt * 0.6)
    const other = await ask([{ role: "system", content: "Be brief." }, ...talk.slice(1)])
    assert.isBelow(other.cached, 20)
  })
})
