/** OpenAI's client and LangChain against the gateway, which runs in this process. */

import { NodeContext } from "@effect/platform-node"
import { ChatOpenAI } from "@langchain/openai"
import { Gateway } from "aicortex"
import { Effect } from "effect"
import OpenAI from "openai"

const question = "What is the capital of France?"

const program = Effect.gen(function* () {
  const { url } = yield* Gateway.serve({
    gateway: { port: 0, aliases: { "gpt-4o-mini": "aicortex-demo" } },
    cortex: { servers: [], configFile: false },
    log: () => {}
  })
  const baseURL = `${url}/v1`
  yield* Effect.promise(async () => {
    const openai = new OpenAI({ baseURL, apiKey: "not-needed" })
    const { choices } = await openai.chat.completions.create({
      model: "gpt-4o-mini",
      temperature: 0,
      messages: [{ role: "user", content: question }]
    })
    console.log(choices[0]?.message.content) // => The capital of France is Paris.

    const langchain = new ChatOpenAI({
      model: "gpt-4o-mini",
      temperature: 0,
      apiKey: "not-needed",
      configuration: { baseURL }
    })
    for await (const chunk of await langchain.stream(question)) process.stdout.write(chunk.text)
    console.log() // => The capital of France is Paris.
  })
})

await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(NodeContext.layer)))
