/** The engines of a supervisor as servers of a fleet. */
import type * as LocalModels from "../LocalModels.js"
import type { ModelInfo } from "../Model.js"
import type { Server } from "../Server.js"
import type * as Servers from "../Servers.js"

const infoOf = (model: LocalModels.Model): ModelInfo => ({
  model_name: model.name,
  family: model.family,
  size: model.size,
  format: "gguf",
  capabilities: [model.embeddings ? "embedding" : "completion"],
  ...(model.contextSize === null ? {} : { context_length: model.contextSize })
})

/** The engines as servers of a fleet. */
export const serversOf = (models: ReadonlyArray<LocalModels.Model>): ReadonlyArray<Servers.LocalServer> =>
  models.flatMap((model) =>
    model.engines.map((engine): Servers.LocalServer => {
      const problem = engine.state === "failed" ? (engine.problem ?? "cannot be run") : undefined
      const server: Server = {
        url: engine.protocol === "openai" ? `${engine.url}/v1` : engine.url,
        protocol: engine.protocol,
        authorization: undefined,
        location: undefined,
        organization: undefined,
        weight: 1,
        priority: 0,
        maxInFlight: engine.slots ?? undefined,
        implicit: false,
        local: true,
        ...(problem === undefined
          ? {}
          : { engineFailure: { engine: engine.engine ?? "any", reason: problem, log: engine.log } })
      }
      return { server, info: infoOf(model), names: model.names, problem }
    })
  )

/** The base URL under which requests are sent to the engine at an address. */
export const baseOf = (servers: ReadonlyArray<Servers.LocalServer>, url: string): string =>
  servers.find(({ server }) => server.url === url || server.url === `${url}/v1`)?.server.url ?? url
