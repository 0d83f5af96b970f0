/** `aicortex serve` in a home of its own, with models of this machine. */
import type { ChildProcess } from "node:child_process"
import { until } from "./engines.js"
import type { LocalHome } from "./localHome.js"

export interface Served extends AsyncDisposable {
  readonly url: string
  readonly child: ChildProcess
  /** What it has written. */
  readonly said: () => string
  /** Ends it as a service manager would; its exit code. */
  readonly end: () => Promise<number | null>
}

/** Starts `aicortex serve --port 0` in a home, and waits until it listens. */
export const serveIn = async (
  { home }: LocalHome,
  args: ReadonlyArray<string> = [],
  env: NodeJS.ProcessEnv = {}
): Promise<Served> => {
  const port = args.includes("--port") ? [] : ["--port", "0"]
  const child = home.start(["serve", ...port, ...args], env)
  let said = ""
  child.stdout?.on("data", (piece) => {
    said += piece
  })
  child.stderr?.on("data", (piece) => {
    said += piece
  })
  const ended = new Promise<number | null>((resolve) => child.once("exit", resolve))
  let url = ""
  await until("it listens", () => {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}: ${said}`)
    url = /listening on (http:\/\/[\w.]+:\d+)/.exec(said)?.[1] ?? ""
    return url !== ""
  })
  const end = async () => {
    child.kill("SIGTERM")
    return await ended
  }
  return {
    url,
    child,
    said: () => said,
    end,
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGTERM")
      await ended
    }
  }
}
