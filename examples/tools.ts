/** A function that the model calls. It needs a server with a model that can use tools. */
import { createCortex } from "aicortex/promise"

await using cortex = createCortex({ model: "llama3.2:3b" })

const weather = {
  name: "weather",
  description: "The weather in a city.",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  execute: ({ city }: { city: string }) => ({ city, sky: "clear", celsius: 21 })
}

const stream = await cortex.chat("What is the weather in Paris?", { stream: true, tools: [weather] })
for await (const event of stream) {
  if (event.type === "tool_call") console.log(`${event.name}(${JSON.stringify(event.arguments)})`)
  if (event.type === "tool_result") console.log(event.result)
}
// => weather({"city":"Paris"})
// => { city: 'Paris', sky: 'clear', celsius: 21 }
console.log(await stream.text())
