/**
 * Commands of the built command line in a process that has it loaded, for tests that are about what a command says and
 * not about its process: loading takes most of the time of a command that refuses its words. They run one after another.
 */
import { type ChildProcess, fork } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface CommandHost {
  readonly run: (args: ReadonlyArray<string>, env: NodeJS.ProcessEnv) => Promise<Ended>
  readonly stop: () => void
}

/** What it sends next; an error if it ends instead. */
const next = async (child: ChildProcess): Promise<unknown> => {
  const stopped = new AbortController()
  const { signal } = stopped
  try {
    return await Promise.race([
      once(child, "message", { signal }).then(([message]) => message),
      once(child, "exit", { signal }).then(([code]) => {
        throw new Error(`the process of the commands ended with ${code}`)
      })
    ])
  } finally {
    stopped.abort()
  }
}

/** Started by the first command. */
export const commandHost = (): CommandHost => {
  let child: ChildProcess | undefined
  let last: Promise<unknown> = Promise.resolve()
  const start = async () => {
    child = fork(fileURLToPath(new URL("commandHost.mjs", import.meta.url)), {
      execArgv: [],
      stdio: ["ignore", "inherit", "inherit", "ipc"]
    })
    await next(child)
    return child
  }
  const run = async (args: ReadonlyArray<string>, env: NodeJS.ProcessEnv) => {
    const host = child ?? (await start())
    const ended = next(host)
    host.send({ args, env })
    return (await ended) as Ended
  }
  return {
    run: (args, env) => {
      const ended = last.then(() => run(args, env))
      last = ended.catch(() => undefined)
      return ended
    },
    stop: () => void child?.kill()
  }
}
