/** A home whose supervisor is ended with it. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { type Ended, type Home, makeHome } from "./cliProcess.js"
import { isAlive, until } from "./engines.js"

interface EngineState {
  readonly pid: number | null
  readonly url: string
  readonly state: string
  readonly restarts: number
}

export interface State {
  readonly pid: number
  readonly url: string
  readonly models: ReadonlyArray<{ readonly name: string; readonly engines: ReadonlyArray<EngineState> }>
}

export interface LocalHome extends AsyncDisposable {
  readonly home: Home
  readonly folder: string
  /** Runs a command in this home. */
  readonly run: (...args: ReadonlyArray<string>) => Promise<Ended>
  /** The same, of which the output is expected. */
  readonly ok: (...args: ReadonlyArray<string>) => Promise<string>
  /** What the supervisor noted; `undefined` if none runs. */
  readonly state: () => State | undefined
  /** The engines of a model. */
  readonly engines: (model?: string) => ReadonlyArray<EngineState>
  /** The processes of engines. */
  readonly pids: () => ReadonlyArray<number>
}

export const localHome = (env: NodeJS.ProcessEnv = {}, config?: unknown): LocalHome => {
  const home = makeHome(config)
  const folder = join(home.path, ".local", "state", "aicortex", "local")
  const state = (): State | undefined => {
    try {
      return JSON.parse(readFileSync(join(folder, "state.json"), "utf8")) as State
    } catch {
      return undefined
    }
  }
  const run = (...args: ReadonlyArray<string>) => home.run(args, env)
  const engines = (model?: string) =>
    (state()?.models ?? []).flatMap((one) => (model === undefined || one.name === model ? one.engines : []))
  return {
    home,
    folder,
    run,
    ok: async (...args) => {
      const { code, err, out } = await run(...args)
      if (code !== 0) throw new Error(`aicortex ${args.join(" ")} ended with ${code}: ${err}${out}`)
      return out.trim()
    },
    state,
    engines,
    pids: () => engines().flatMap(({ pid }) => (pid === null ? [] : [pid])),
    [Symbol.asyncDispose]: async () => {
      const pid = state()?.pid
      await run("stop")
      if (pid !== undefined) await until("the supervisor is gone", () => !isAlive(pid))
      await home[Symbol.asyncDispose]()
    }
  }
}
