/** One question, one answer; the same model for every call of this program. */
import { createCortex } from "aicortex/promise"

// Servers come from AICORTEX_SERVERS or the configuration file; "aicortex-demo" is built in and needs none.
await using cortex = createCortex({ model: "aicortex-demo", defaults: { temperature: 0 } })

console.log(await cortex.chat("What is the capital of France?"))
// => The capital of France is Paris.

const answer = await cortex.complete([
  { role: "system", content: "You are a pirate." },
  { role: "user", content: "What is the capital of Italy?" }
])
console.log(answer.text) // => Arr! The capital of Italy is Rome.
console.log(answer.finishReason, answer.model) // => stop aicortex-demo
