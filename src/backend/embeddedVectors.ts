/** Vectors of texts. */
import type { LlamaEmbeddingContext } from "node-llama-cpp"
import type { EmbedSink, ServerFailure } from "../Backend.js"
import type { EmbedRequest } from "../EmbedRequest.js"
import type { Engine } from "./embeddedEngine.js"

/** As servers give them: of length 1, cut to the dimensions that were asked for. */
const normalized = (vector: ReadonlyArray<number>, dimensions: number | undefined): ReadonlyArray<number> => {
  const part = dimensions === undefined ? vector : vector.slice(0, dimensions)
  const length = Math.hypot(...part)
  return length === 0 ? part : part.map((value) => value / length)
}

const refused = (message: string): ServerFailure => ({ reason: "invalid-request", message })

/** Makes the vectors of a request one after another, as long as it is wanted. */
export const embed = async (
  { contextSize, model }: Engine,
  vectors: LlamaEmbeddingContext,
  { dimensions, input, truncate }: EmbedRequest,
  sink: EmbedSink,
  wanted: () => boolean
): Promise<void> => {
  if (dimensions !== undefined && dimensions > model.embeddingVectorSize) {
    return sink.fail(refused(`dimensions: the model's vectors have ${model.embeddingVectorSize}`))
  }
  const made: Array<ReadonlyArray<number>> = []
  let tokens = 0
  for (const one of input) {
    const all = typeof one === "string" ? model.tokenize(one) : [...one]
    // Two tokens mark the beginning and the end.
    const most = contextSize - 3
    if (all.length > most && truncate !== true) {
      const message = `a text is ${all.length} tokens long, and the model's context holds ${contextSize}; shorten it`
      return sink.fail({ reason: "context-length", message })
    }
    const { vector } = await vectors.getEmbeddingFor(all.slice(0, most) as never)
    if (!wanted()) return
    tokens += Math.min(all.length, most)
    sink.read()
    made.push(normalized(vector, dimensions))
  }
  sink.embedded(made, tokens)
}
