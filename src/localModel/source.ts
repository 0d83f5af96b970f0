/** Which file a name stands for. */
import { statSync } from "node:fs"
import { basename, isAbsolute, resolve } from "node:path"
import * as Effect from "effect/Effect"
import { defaultModelPath } from "../backend/embedded.js"
import { ModelNotFound } from "../Errors.js"
import type { LocalSource } from "../engines/engine.js"
import { canonical, demoModel } from "../Model.js"

const isFile = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFile() === true

/** Whether a name can only be a file's. */
const isPath = (name: string): boolean =>
  isAbsolute(name) || name.startsWith("./") || name.startsWith("../") || /\.gguf$/i.test(name)

const nameOf = (path: string): string => basename(path).replace(/\.gguf$/i, "")

/** The file of a model: a path, or the built-in model. */
export const find = (model: string): Effect.Effect<LocalSource, ModelNotFound> =>
  Effect.suspend(() => {
    if (canonical(model) === canonical(demoModel)) {
      return Effect.succeed({ name: demoModel, path: defaultModelPath() })
    }
    const path = resolve(model.replace(/^file:(\/\/)?/, ""))
    if (isFile(path)) return Effect.succeed({ name: nameOf(path), path })
    return Effect.fail(new ModelNotFound({ model, suggestions: [], ...(isPath(model) ? { available: [] } : {}) }))
  })
