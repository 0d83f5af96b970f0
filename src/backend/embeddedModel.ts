/** Where the built-in model lies. It stands alone, because the backend loads much that a listing of models does not need. */
import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"

/** The path of the built-in model. */
export const defaultModelPath = (): string => {
  const file = "registry/demo/aicortex-demo.gguf"
  for (const up of ["../../", "../", "../../../"]) {
    const path = fileURLToPath(new URL(up + file, import.meta.url))
    if (existsSync(path)) return path
  }
  return fileURLToPath(new URL(`../../${file}`, import.meta.url))
}
