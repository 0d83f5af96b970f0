/**
 * What Ollama's lists and `show` report for models of other servers: taken from the server, the catalogue or the name,
 * and nothing that is a guess.
 */
import { type ModelInfo, parseParameters, quantization, sizeOfName } from "../../../Model.js"
import * as BodyFields from "../../http/body.js"

const numberAt = (fields: BodyFields.Fields, name: string): number | undefined => {
  const value = fields[name]
  return typeof value === "number" && Number.isFinite(value) && value > 0 ? value : undefined
}

/** llama.cpp's server reports these for its model file. */
const metaOf = (info: ModelInfo | undefined): BodyFields.Fields => {
  const meta = info?.["meta"]
  return BodyFields.isObject(meta) ? meta : {}
}

const parametersOf = (name: string, info: ModelInfo | undefined): number | undefined =>
  (info?.parameter_size === undefined ? undefined : parseParameters(info.parameter_size)) ??
  numberAt(metaOf(info), "n_params") ??
  sizeOfName(name)

const shortened = (parameters: number): string => {
  const [unit, power] = parameters >= 1e9 ? ["B", 1e9] : parameters >= 1e6 ? ["M", 1e6] : ["K", 1e3]
  return `${Math.round((parameters / Number(power)) * 10) / 10}${unit}`
}

const quantizationOf = (name: string, info: ModelInfo | undefined): string | undefined =>
  info?.quantization_level ?? quantization(name)

/** Bytes per weight, by the beginning of the quantization's name. */
const weights: ReadonlyArray<readonly [start: RegExp, bytes: number]> = [
  [/^F32/, 4],
  [/^B?F16/, 2],
  [/^(Q8|FP8|INT8)/, 1.06],
  [/^Q6/, 0.82],
  [/^Q5/, 0.69],
  [/^(I?Q4|MXFP4|NVFP4|INT4)/, 0.58],
  [/^I?Q3/, 0.47],
  [/^I?Q[12]/, 0.38]
]

/** Size in bytes: as reported, else estimated from the parameter count (16 bits each by default); 0 if unknown. */
const sizeOf = (name: string, info: ModelInfo | undefined): number => {
  const reported = info?.size ?? numberAt(metaOf(info), "size")
  if (reported !== undefined) return reported
  const parameters = parametersOf(name, info)
  if (parameters === undefined) return 0
  const level = quantizationOf(name, info)
  const bytes = level === undefined ? undefined : weights.find(([start]) => start.test(level))?.[1]
  return Math.round(parameters * (bytes ?? 2))
}

const modified = (info: ModelInfo | undefined): string => {
  const created = info?.["created"]
  const known = typeof created === "number" && created > 0 && created < 1e11
  return new Date(known ? created * 1000 : 0).toISOString().replace(".000Z", "Z")
}

const embeds = /embed|minilm|bge-|reranker/i

/** Models complete unless known to do something else. */
const capabilitiesOf = (name: string, info: ModelInfo | undefined): ReadonlyArray<string> =>
  info?.capabilities ?? (embeds.test(name) ? ["embedding"] : ["completion"])

const familyOf = (info: ModelInfo | undefined): string | undefined =>
  info === undefined || info.family === "others" ? undefined : info.family

/** An entry of a list. */
export const entry = (name: string, info: ModelInfo | undefined): object => {
  const parameters = parametersOf(name, info)
  const family = familyOf(info)
  const isGguf = info?.["owned_by"] === "llamacpp" || /\.gguf$/i.test(name)
  return {
    name,
    model: name,
    modified_at: modified(info),
    size: sizeOf(name, info),
    digest: "",
    details: {
      parent_model: "",
      format: info?.format ?? (isGguf ? "gguf" : ""),
      family: family ?? "",
      families: family === undefined ? [] : [family],
      parameter_size: info?.parameter_size ?? (parameters === undefined ? "" : shortened(parameters)),
      quantization_level: quantizationOf(name, info) ?? ""
    },
    ...(info === undefined ? {} : { capabilities: capabilitiesOf(name, info) })
  }
}

/** Until when a model is in memory that is not unloaded at a time that is known, in the words of Ollama. */
const forever = "2318-01-01T00:00:00Z"

/** An entry of the list of loaded models. */
export const loaded = (name: string, info: ModelInfo): object => {
  const { capabilities: _, modified_at: __, ...rest } = entry(name, info) as BodyFields.Fields
  const context = info.context_length
  return { ...rest, expires_at: forever, size_vram: 0, ...(context === undefined ? {} : { context_length: context }) }
}

/** The reply of `show`. */
export const shown = (name: string, info: ModelInfo): object => {
  const architecture = familyOf(info) ?? "unknown"
  const meta = metaOf(info)
  const facts = {
    "general.parameter_count": parametersOf(name, info),
    [`${architecture}.context_length`]: info.context_length ?? numberAt(meta, "n_ctx_train"),
    [`${architecture}.embedding_length`]: numberAt(meta, "n_embd"),
    [`${architecture}.vocab_size`]: numberAt(meta, "n_vocab")
  }
  return {
    license: "",
    modelfile: `FROM ${name}\n`,
    parameters: "",
    template: "",
    ...entry(name, info),
    model_info: {
      "general.architecture": architecture,
      ...Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== undefined))
    },
    tensors: []
  }
}
