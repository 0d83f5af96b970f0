/** A search by meaning. It needs a server with an embedding model, such as nomic-embed-text. */
import { createCortex } from "aicortex/promise"

await using cortex = createCortex()

const texts = [
  "A cat sleeps on the sofa.",
  "The stock market fell by two percent.",
  "Ollama runs language models on your own machine."
]
const question = "A cat sleeps on the sofa."

// One request for all of them; each vector stands where its text does.
const { embeddings } = await cortex.embed([question, ...texts], { model: "nomic-embed-text" })
const [asked = [], ...vectors] = embeddings

const dot = (a: ReadonlyArray<number>, b: ReadonlyArray<number>) => a.reduce((sum, x, i) => sum + x * (b[i] ?? 0), 0)
const similarity = (a: ReadonlyArray<number>, b: ReadonlyArray<number>) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))

const found = texts
  .map((text, i) => ({ text, score: similarity(asked, vectors[i] ?? []) }))
  .sort((a, b) => b.score - a.score)
console.log(found[0]?.text) // => A cat sleeps on the sofa.
