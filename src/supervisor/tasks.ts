/** Downloads that go on in the background, each with an id. */
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { InvalidModelReference } from "../Errors.js"
import type { PullTask } from "../LocalModels.js"
import type * as ModelStore from "../ModelStore.js"

/** How many that have ended are remembered. */
const maxEnded = 100

interface Running {
  task: PullTask
  fiber: Fiber.RuntimeFiber<void, unknown> | undefined
}

/** `changed` is called at each step; `added` when there is a new model. */
export const make = (
  store: ModelStore.Service,
  changed: (task: PullTask) => void,
  added: Effect.Effect<void>
): Effect.Effect<
  {
    readonly list: () => ReadonlyArray<PullTask>
    /** Begins a download; one of the same model that runs already is as good. */
    readonly pull: (
      model: string,
      name: string | undefined
    ) => Effect.Effect<{ readonly task: PullTask; readonly isNew: boolean }, InvalidModelReference>
    /** Ends one; what was downloaded stays, and the next one goes on with it. `undefined`: there is none that runs. */
    readonly cancel: (id: string) => Effect.Effect<PullTask | undefined>
  },
  never,
  Scope.Scope
> =>
  Effect.map(Effect.scope, (scope) => {
    const tasks = new Map<string, Running>()

    const update = (running: Running, change: Partial<PullTask>): void => {
      running.task = { ...running.task, ...change }
      changed(running.task)
      const ended = [...tasks.values()].filter(({ task }) => task.state !== "running")
      for (const { task } of ended.slice(0, -maxEnded)) tasks.delete(task.id)
    }

    const changeOf = ({ task }: Running, event: ModelStore.PullEvent): Partial<PullTask> => {
      if (event.type === "done") {
        const { name, size } = event.model
        return { stored: name, completed: size, total: size }
      }
      if (event.type === "waiting" || event.type === "retry") return { phase: event.type }
      return { phase: event.type, completed: event.completed, total: event.total ?? task.total }
    }

    const pull = Effect.fnUntraced(function* (model: string, name: string | undefined) {
      const reference = yield* store.parse(model)
      if (reference.kind === "ollama") {
        const reason = "it is a model of Ollama's library, which Ollama servers get: POST /api/pull"
        return yield* new InvalidModelReference({ reference: model, reason })
      }
      const wanted = name ?? reference.name
      const same = [...tasks.values()].find(({ task }) => task.state === "running" && task.model === wanted)
      if (same !== undefined) return { task: same.task, isNew: false }
      const running: Running = {
        task: {
          id: `task-${randomUUID()}`,
          model: wanted,
          state: "running",
          phase: "begin",
          completed: 0,
          total: null,
          stored: null,
          error: null
        },
        fiber: undefined
      }
      tasks.set(running.task.id, running)
      const all = store
        .pull(model, { name })
        .pipe(Stream.runForEach((event) => Effect.sync(() => update(running, changeOf(running, event)))))
      running.fiber = yield* all.pipe(
        Effect.zipRight(added),
        Effect.onExit((exit) =>
          Effect.sync(() => {
            if (Exit.isSuccess(exit)) return update(running, { state: "done" })
            if (Exit.isInterrupted(exit)) return update(running, { state: "cancelled" })
            const error = exit.cause._tag === "Fail" ? exit.cause.error : undefined
            return update(running, { state: "failed", error: error?.message ?? "the download failed" })
          })
        ),
        Effect.interruptible,
        Effect.forkIn(scope)
      )
      changed(running.task)
      return { task: running.task, isNew: true }
    })

    const cancel = (id: string) =>
      Effect.suspend(() => {
        const running = tasks.get(id)
        if (running?.fiber === undefined || running.task.state !== "running") return Effect.succeed(undefined)
        return Effect.map(Fiber.interrupt(running.fiber), () => running.task)
      })

    return { list: () => [...tasks.values()].map(({ task }) => task), pull, cancel }
  })
