/** The routes about the models of this machine, as Cortex has them. */
import * as OpenApi from "./openapi/document.js"
import * as LocalModels from "./protocols/aicortex/localModels.js"
import * as Local from "./protocols/cortex/models.js"
import { addRoute } from "./routeTable.js"

/** Every key that may change models may use this; importing a file of this machine needs an administrator. */
const admin = { admin: true, managesModels: true } as const

/** Adds them to the table. */
export const addCortexRoutes = (): void => {
  addRoute(
    "POST",
    "/v1/models/start",
    "Starts a model of this machine, and waits until it answers (Cortex)",
    Local.start,
    {
      ...admin,
      body: Local.startBody
    }
  )
  addRoute("POST", "/v1/models/stop", "Stops a model of this machine (Cortex)", Local.stop, {
    ...admin,
    body: Local.stopBody
  })
  addRoute("POST", "/v1/models/pull", "Downloads a model to this machine in the background (Cortex)", Local.pull, {
    ...admin,
    body: Local.pullBody
  })
  addRoute("GET", "/v1/models/pull", "The downloads to this machine", Local.tasks, admin)
  addRoute(
    "GET",
    "/v1/models/pull/",
    "How far a download is",
    (gateway, context, _, id) => Local.task(gateway, context, id),
    admin
  )
  addRoute(
    "DELETE",
    "/v1/models/pull/",
    "Cancels a download; the next one continues it (Cortex)",
    (gateway, context, _, id) => Local.cancel(gateway, context, id),
    admin
  )
  addRoute("POST", "/v1/models/import", "Makes a file of this machine a model of it (Cortex)", Local.importFile, {
    admin: true,
    body: Local.importBody
  })
  addRoute(
    "PATCH",
    "/v1/models/",
    "Changes how a model of this machine is started; null is the default again (Cortex)",
    (gateway, context, body, id) => Local.change(gateway, context, body, id),
    { ...admin, body: Local.changeBody }
  )
  addRoute(
    "DELETE",
    "/v1/models/",
    "Stops and deletes a model of this machine (OpenAI, Cortex)",
    (gateway, context, _, id) => Local.remove(gateway, context, id),
    admin
  )
  addRoute("GET", "/local/models", "The models of this machine, with what runs them", LocalModels.list)
  addRoute(
    "GET",
    "/local/quantisations",
    "Which forms a repository has of its model, and which fit into the memory of this machine",
    LocalModels.quantisations,
    { ...admin, parameters: [OpenApi.query("model", "The repository, as `aicortex pull` takes it.")] }
  )
  addRoute(
    "GET",
    "/v1/hardware",
    "Processors, memory, disk and graphics cards of this machine (Cortex)",
    Local.hardware
  )
  addRoute("GET", "/v1/engines", "The engines of this machine (Cortex)", Local.engines)
}
