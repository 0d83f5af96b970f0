/** Conversations that outlive the process: they are in a store, and another fleet goes on with them. */
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createCortex } from "aicortex/promise"

const folder = await mkdtemp(join(tmpdir(), "conversations-"))
const options = { model: "aicortex-demo", store: join(folder, "store.db"), defaults: { temperature: 0 } }

const ask = async (session: string | undefined, question: string) => {
  await using cortex = createCortex(options)
  const conversation = session === undefined ? await cortex.Session.create() : await cortex.Session.resume(session)
  console.log(await cortex.chat(question, { session: conversation }))
  return conversation.id
}

const id = await ask(undefined, "My name is Alice.")
await ask(id, "What is my name?") // => Your name is Alice.

await rm(folder, { recursive: true })
