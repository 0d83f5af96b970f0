/** Layers that are to stand in the place of parts. */
import * as Layer from "effect/Layer"
import { InvalidConfig } from "../Errors.js"

/**
 * What is wrong with the layers that are to stand in the place of parts, if anything: `known` are the parts there are.
 */
export const wrongPart = (parts: object, known: ReadonlyArray<string>): InvalidConfig | undefined => {
  const source = "the replacements"
  for (const [field, layer] of Object.entries(parts)) {
    if (!known.includes(field)) {
      return new InvalidConfig({ source, field, reason: `there is no such part; there are ${known.join(", ")}` })
    }
    if (layer !== undefined && !Layer.isLayer(layer)) {
      return new InvalidConfig({ source, field, reason: "must be a layer" })
    }
  }
  return undefined
}
