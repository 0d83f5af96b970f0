/** Starts `aicortex engine` from flags that are read already. */
import { prepare } from "../../backend/embeddedLibrary.js"
import { testOnce } from "./binaryTest.js"
import { importParts } from "./libraryParts.js"
import type { Flags } from "./run.js"

/**
 * The library first, alone: once it is imported it tries its binary in another process, and the gateway is imported while
 * it waits for that.
 */
export const start = async (flags: Flags): Promise<void> => {
  await prepare({ gpuLayers: flags.gpuLayers ?? -1 }, testOnce(), () => importParts())
  const [{ runProgram }, { run }] = await Promise.all([import("../program.js"), import("./run.js")])
  runProgram(run(flags), () => ({ path: ["engine"], flags: new Map(), file: "" }))
}
