/**
 * `makeFolder` where there is no Effect.
 *
 * @internal
 */
import { mkdirSync, statSync } from "node:fs"
import { dirname } from "node:path"

const isMissing = (error: unknown): boolean => error instanceof Error && "code" in error && error.code === "ENOENT"

const isFolder = (path: string): boolean => {
  try {
    return statSync(path).isDirectory()
  } catch {
    return false
  }
}

const one = (folder: string, mode: number | undefined): void => {
  try {
    mkdirSync(folder, { mode })
  } catch (error) {
    if (isMissing(error) || !isFolder(folder)) throw error
  }
}

/**
 * Makes a folder where there is none, with those above it.
 *
 * @internal
 */
export const makeFolderSync = (folder: string, mode?: number): void => {
  try {
    one(folder, mode)
  } catch (error) {
    const above = dirname(folder)
    if (!isMissing(error) || above === folder) throw error
    makeFolderSync(above, mode)
    one(folder, mode)
  }
}
