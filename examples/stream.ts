/** An answer as it is written, and how it is stopped. */
import { createCortex } from "aicortex/promise"

await using cortex = createCortex({ model: "aicortex-demo", defaults: { temperature: 0 } })

const stream = await cortex.chat("Count to five.", { stream: true })
for await (const event of stream) {
  if (event.type === "token") process.stdout.write(event.content)
  if (event.type === "error") console.error(event.content)
  if (event.type === "end") console.log(`\n${event.finishReason}, ${event.attempts.length} failed attempts`)
}
// => 1, 2, 3, 4, 5.
// => stop, 0 failed attempts

// It can be read again. Leaving a loop early, or aborting a signal, cancels the request on the server.
console.log(await stream.text()) // => 1, 2, 3, 4, 5.
const controller = new AbortController()
try {
  for await (const event of await cortex.chat("Count to five.", { stream: true, signal: controller.signal })) {
    if (event.type === "token") controller.abort(new Error("enough"))
  }
} catch (error) {
  console.log(error instanceof Error && error.message) // => enough
}
