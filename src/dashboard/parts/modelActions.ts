/** What is done with models on servers; each fails with what the gateway says. */
import { call, lines, post } from "../api"

const onServer = (server: string): RequestInit => ({ headers: { "x-aicortex-target": server } })

export const load = (server: string, model: string): Promise<unknown> =>
  post("/api/generate", { model, keep_alive: "5m", stream: false }, onServer(server))

export const unload = (server: string, model: string): Promise<unknown> =>
  post("/api/generate", { model, keep_alive: 0, stream: false }, onServer(server))

export const remove = (server: string, model: string): Promise<unknown> =>
  post("/api/delete", { model, server }, { method: "DELETE" })

/** Its progress is in the events. Without a server, the gateway chooses one. */
export const pull = async (server: string | undefined, model: string): Promise<void> => {
  let failure: string | undefined
  await lines(await post("/api/pull", { model, server }), (line) => {
    if (line.includes('"error"')) failure = String(JSON.parse(line).error)
  })
  if (failure !== undefined) throw new Error(failure)
}

export const loadHere = (model: string): Promise<unknown> => post("/v1/models/start", { model })
export const unloadHere = (model: string): Promise<unknown> => post("/v1/models/stop", { model })
export const pullHere = (model: string): Promise<unknown> => post("/v1/models/pull", { model })
export const cancelPull = (task: string): Promise<unknown> =>
  call(`/v1/models/pull/${encodeURIComponent(task)}`, { method: "DELETE" })
export const removeHere = (model: string): Promise<unknown> =>
  call(`/v1/models/${encodeURIComponent(model)}`, { method: "DELETE" })
