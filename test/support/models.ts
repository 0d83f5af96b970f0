import { createHash } from "node:crypto"

/** A model that a fake server has. */
export interface FakeModel {
  readonly name: string
  readonly digest?: string
  readonly parameterSize?: string
  readonly quantization?: string
  readonly family?: string
  readonly capabilities?: ReadonlyArray<string>
  readonly contextLength?: number
  readonly size?: number
}

/** A model with every field filled in. */
export type Model = Required<FakeModel>

interface HasModels {
  readonly models?: ReadonlyArray<string | FakeModel> | undefined
}

/** The key of a model name: lower case, without the default registry, with the tag `latest` if it has none. */
export function canonical(name: string): string {
  const bare = name.toLowerCase().replace(/^(registry\.ollama\.ai\/)?library\//, "")
  return bare.slice(bare.lastIndexOf("/") + 1).includes(":") ? bare : `${bare}:latest`
}

/** The models of a fake with every field filled in. */
export const modelsOf = (options: HasModels): ReadonlyArray<Model> =>
  (options.models ?? ["llama3.2:3b"]).map((given) => {
    const model: FakeModel = typeof given === "string" ? { name: given } : given
    const size = /(\d+(?:\.\d+)?)([bm])\b/i.exec(model.name.split(":")[1] ?? "")
    return {
      digest: createHash("sha256").update(canonical(model.name)).digest("hex"),
      parameterSize: size === null ? "3.2B" : `${size[1]}${size[2]?.toUpperCase()}`,
      quantization: "Q4_K_M",
      family: /^[a-z]+/i.exec(model.name.slice(model.name.lastIndexOf("/") + 1))?.[0].toLowerCase() ?? "llama",
      capabilities: ["completion", "tools"],
      contextLength: 4096,
      size: 2_019_393_189,
      ...model
    }
  })

/** A model by the name a client used, as Ollama looks it up. */
export const findModel = (options: HasModels, name: unknown): Model | undefined =>
  typeof name === "string" ? modelsOf(options).find((model) => canonical(model.name) === canonical(name)) : undefined
