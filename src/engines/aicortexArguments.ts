/** The arguments of `aicortex engine`, also for code without Effect. */
import type { EngineOptions, LocalSource } from "./engine.js"

/** To listen at a port of the loopback interface, and to end with the process that started it. */
export const engineArguments = (
  { name, path = "" }: LocalSource,
  options: EngineOptions,
  port: number
): ReadonlyArray<string> => [
  "engine",
  path,
  ...["--host", "127.0.0.1", "--port", String(port), "--name", name],
  ...["--ctx", String(options.contextSize), "--ngl", String(options.gpuLayers)],
  ...["--threads", String(options.threads)],
  ...(options.parallel === undefined ? [] : ["--parallel", String(options.parallel)]),
  ...(options.temperature === undefined ? [] : ["--temp", String(options.temperature)]),
  ...(options.maxTokens === undefined ? [] : ["--max-tokens", String(options.maxTokens)]),
  ...(options.embeddings === true ? ["--embeddings"] : []),
  "--stdin-guard"
]

/** What it says of itself: one line when it listens, another one when it answers. */
export const announced = (line: string): { readonly url: string; readonly ready: boolean } | undefined => {
  if (!line.startsWith('{"url":"http://127.0.0.1:')) return undefined
  try {
    const { ready, url } = JSON.parse(line) as { readonly url: string; readonly ready?: boolean }
    return { url, ready: ready === true }
  } catch {
    return undefined
  }
}
