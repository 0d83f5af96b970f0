/** Writes a text in the user's editor. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Editor from "../../editor.js"

/** The text as the editor left it. Fails if the editor does. The file is readable by the user alone, and removed. */
export const edit = async (text: string): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), "aicortex-"))
  try {
    const file = join(folder, "message.md")
    await writeFile(file, text, { mode: 0o600 })
    await Editor.open(file)
    return (await readFile(file, "utf8")).replace(/\s+$/, "")
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
