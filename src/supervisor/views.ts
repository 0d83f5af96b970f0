/** The engines of this machine's models, as the control socket reports them. */
import type * as LocalModels from "../LocalModels.js"
import type { Usage } from "../Servers.js"
import type { Instance } from "./instance.js"

export const urlOf = ({ port }: Pick<Instance, "port">): string => `http://127.0.0.1:${port}`

/** An engine of a model; `memory` is that of processes. */
export const engineView = (
  model: { readonly name: string; readonly slots: number },
  instance: Instance,
  memory: ReadonlyMap<number, number>,
  usage: Usage
): LocalModels.Engine => {
  const url = urlOf(instance)
  return {
    model: model.name,
    state: instance.state,
    engine: instance.engine.name,
    url,
    protocol: instance.engine.protocol,
    pid: instance.pid ?? null,
    processStart: instance.processStart ?? null,
    memory: instance.pid === undefined ? null : (memory.get(instance.pid) ?? null),
    readyAt: instance.readyAt ?? null,
    tokensPerSecond: usage.tokensPerSecond ?? null,
    inFlight: usage.inFlight,
    slots: instance.state === "ready" ? model.slots : 0,
    restarts: instance.restarts,
    problem: instance.problem ?? null,
    log: instance.state === "failed" ? instance.log : []
  }
}

/** The engine of a model that is loaded when it is asked for. */
export const idleView = (name: string, url: string, error: LocalModels.StartError | undefined): LocalModels.Engine => {
  return {
    model: name,
    state: error === undefined ? "stopped" : "failed",
    engine: null,
    url,
    protocol: "openai",
    pid: null,
    processStart: null,
    memory: null,
    readyAt: null,
    tokensPerSecond: null,
    inFlight: 0,
    slots: 0,
    restarts: 0,
    problem: error === undefined ? null : error._tag === "EngineFailed" ? error.reason : error.message,
    log: []
  }
}
