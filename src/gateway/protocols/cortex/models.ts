/**
 * Cortex's routes about the models of this machine: start, stop, pull, import, change and delete them; and what the
 * machine has for them.
 */
import * as Duration from "../../../internal/duration.js"
import type { Control, PullTask } from "../../../LocalModels.js"
import { changed, Progress } from "../../events/downloads.js"
import type { GatewayContext } from "../../GatewayContext.js"
import type * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import { make, RequestRejected, reject } from "../../http/errorResponse.js"
import type { IgnoredFields } from "../../http/fieldPolicy.js"
import type { RequestContext } from "../../http/RequestContext.js"

/** What events call it. */
const server = "this machine"

const most = 1_000_000_000

/** Cortex calls its only engine so. */
const cortexEngine = "llama-cpp"

const settings = {
  engine: Body.oneOf(["aicortex", "llama-server", "ollama", "container", cortexEngine], {
    doc: `The program that runs it; ${cortexEngine}, as Cortex calls its own, is whichever there is.`
  }),
  ctx_len: Body.whole(0, most, { doc: "Tokens of context for each request. Default: 0, as the model says." }),
  ngl: Body.whole(-1, most, { doc: "Layers on the graphics card. Default: -1, all that fit." }),
  cpu_threads: Body.whole(-1, most, { doc: "Threads. Default: -1, as many as suit." }),
  n_parallel: Body.whole(1, most, { doc: "Requests at once. Default: 4." }),
  temperature: Body.number(0, 2, { doc: "That of requests that name none." }),
  embeddings: Body.flag({ doc: "Whether it makes vectors instead of text." }),
  replicas: Body.whole(1, 1_000, { doc: "Engines side by side. Default: 1." }),
  keep_alive: Body.custom<number | undefined>(
    {
      ...Body.anyOf({ type: "number", minimum: 0 }, { type: "string" }),
      description: "How long it stays after its last request: seconds, or 5m. Default: until it is stopped."
    },
    (fields, name, at) => {
      const value = fields[name]
      if (value === undefined || value === null) return undefined
      if (typeof value === "number" && value >= 0) return value * 1_000
      const parsed = typeof value === "string" ? Duration.parse(value) : undefined
      return parsed !== undefined && parsed >= 0
        ? parsed
        : reject(at, "must be a number of seconds, or a duration such as 5m")
    }
  ),
  timeout: Body.number(0, most, { doc: "How long it may take until it answers, in seconds. Default: 30." })
}

const model = Body.required(Body.text({ doc: "The name of the model." }))

/** The body of `POST /v1/models/start`. */
export const startBody = Body.struct({ model, ...settings })

/** The body of `POST /v1/models/stop`. */
export const stopBody = Body.struct({ model })

/** The body of `POST /v1/models/pull`. */
export const pullBody = Body.struct({
  model: Body.required(Body.text({ doc: "What `aicortex pull` takes: a name, a repository, an address." })),
  name: Body.text({ doc: "The name that it gets." })
})

/** The body of `POST /v1/models/import`. */
export const importBody = Body.struct({
  model: Body.text({ doc: "The name that it gets. Default: that of the file." }),
  modelPath: Body.required(Body.text({ doc: "The file, on the machine of the gateway." })),
  option: Body.oneOf(["symlink", "copy"], {
    doc: "Whether the file stays where it is, or is copied. Default: symlink."
  })
})

/** The body of `PATCH /v1/models/{id}`. */
export const changeBody = Body.struct(settings)

const { read } = changeBody

/** How a model is to be started; what is `null` has its default again. */
const optionsOf = (body: BodyFields.Fields): { readonly [name: string]: unknown } => {
  const engine = read.engine(body)
  const timeout = read.timeout(body)
  const options = {
    engine: engine === cortexEngine ? undefined : engine,
    contextSize: read.ctx_len(body),
    gpuLayers: read.ngl(body),
    threads: read.cpu_threads(body),
    parallel: read.n_parallel(body),
    temperature: read.temperature(body),
    embeddings: read.embeddings(body),
    replicas: read.replicas(body),
    keepAlive: read.keep_alive(body),
    timeout: timeout === undefined ? undefined : timeout * 1_000
  }
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
}

/** The fields that are `null`, by the names of their options. */
const unset = (body: BodyFields.Fields): { readonly [name: string]: null } => {
  const names = {
    engine: "engine",
    ctx_len: "contextSize",
    ngl: "gpuLayers",
    cpu_threads: "threads",
    n_parallel: "parallel",
    temperature: "temperature",
    embeddings: "embeddings",
    replicas: "replicas",
    keep_alive: "keepAlive",
    timeout: "timeout"
  }
  const fields = Object.entries(names).filter(([field]) => body[field] === null)
  return Object.fromEntries(fields.map(([, option]) => [option, null]))
}

/** Manages the models of this machine; rejects the request where this gateway does not. */
export const controlOf = ({ local }: GatewayContext): Control => {
  if (local !== undefined) return local
  const message = "This gateway does not manage the models of its machine: `aicortex serve` does, without --no-local."
  throw new RequestRejected(make(404, message, "no_local_models"))
}

type Declared = Parameters<IgnoredFields["check"]>[1]

type Answer = { readonly [name: string]: unknown }

/** Has something done with them. */
export const run = (
  gateway: GatewayContext,
  context: RequestContext,
  operation: Parameters<Control["run"]>[0],
  body: object
): Promise<Answer> => {
  const { result, stop } = gateway.library.run(controlOf(gateway).run(operation, body))
  if (operation === "start") context.onDisconnect(stop)
  return result as Promise<Answer>
}

const checked = (context: RequestContext, body: BodyFields.Fields, declared: Declared): void =>
  context.decode((fields, ignored) => ignored.check(fields, declared), body)

/** `POST /v1/models/start`: waits until it answers. */
export const start = async (gateway: GatewayContext, context: RequestContext, body: BodyFields.Fields) => {
  checked(context, body, startBody)
  const name = startBody.read.model(body)
  context.record.model = name
  const started = await run(gateway, context, "start", { model: name, options: optionsOf(body) })
  changed(gateway.events, { action: "load", model: String(started["model"]), server })
  context.json({ message: "Started successfully!", model: started["model"] })
}

/** `POST /v1/models/stop`. */
export const stop = async (gateway: GatewayContext, context: RequestContext, body: BodyFields.Fields) => {
  checked(context, body, stopBody)
  const name = stopBody.read.model(body)
  context.record.model = name
  const { model, stopped } = await run(gateway, context, "stop", { model: name })
  if (stopped !== true) {
    const message = `The model '${name}' does not run on this machine.`
    throw new RequestRejected(make(404, message, "model_not_running", "model"))
  }
  changed(gateway.events, { action: "unload", model: String(model), server })
  context.json({ message: "Stopped successfully!", model })
}

const taskOf = ({ completed, error, id, model, phase, state, stored, total }: PullTask): object => ({
  id,
  type: "Model",
  model,
  state,
  phase,
  completed,
  total,
  ...(stored === null ? {} : { stored }),
  ...(error === null ? {} : { error })
})

/** Tells those who watch the gateway how far a download is, until it has ended. */
const tell = ({ events }: GatewayContext, local: Control, { id, model }: PullTask): void => {
  const progress = new Progress(events, { action: "pull", model, server, task: id })
  let ended = false
  const note = (task: PullTask): void => {
    if (task.id !== id || ended) return
    if (task.state === "running") progress.line(task.phase, { completed: task.completed, total: task.total })
    else {
      ended = true
      progress.end(task.state === "done" ? undefined : (task.error ?? "cancelled"))
    }
  }
  const leave = local.observe((task) => {
    note(task)
    if (ended) leave()
  })
  // It may have ended before it was observed.
  for (const task of local.tasks()) note(task)
  if (ended) leave()
}

/** `POST /v1/models/pull`: starts a download, and returns its task. */
export const pull = async (gateway: GatewayContext, context: RequestContext, body: BodyFields.Fields) => {
  checked(context, body, pullBody)
  const name = pullBody.read.model(body)
  context.record.model = name
  const options = { model: name, name: pullBody.read.name(body) }
  const { isNew, task } = (await run(gateway, context, "pull", options)) as unknown as {
    readonly task: PullTask
    readonly isNew: boolean
  }
  if (isNew) tell(gateway, controlOf(gateway), task)
  context.json({ message: "Model start downloading!", task: taskOf(task) })
}

const noTask = (id: string): never => {
  const message = `There is no download '${id.slice(0, 100)}' under way. GET /v1/models/pull lists them.`
  throw new RequestRejected(make(404, message, "task_not_found"))
}

/** `GET /v1/models/pull`. */
export const tasks = (gateway: GatewayContext, context: RequestContext): void =>
  context.json({ object: "list", data: controlOf(gateway).tasks().map(taskOf) })

/** `GET /v1/models/pull/{task}`. */
export const task = (gateway: GatewayContext, context: RequestContext, id: string): void => {
  const found = controlOf(gateway)
    .tasks()
    .find((one) => one.id === id)
  context.json(found === undefined ? noTask(id) : taskOf(found))
}

/** `DELETE /v1/models/pull/{task}`. */
export const cancel = async (gateway: GatewayContext, context: RequestContext, id: string): Promise<void> => {
  if (
    !controlOf(gateway)
      .tasks()
      .some((one) => one.id === id)
  )
    noTask(id)
  const ended = (await run(gateway, context, "cancelPull", { task: id })) as unknown as PullTask | null
  context.json({ message: "Download stopped successfully", task: ended === null ? noTask(id) : taskOf(ended) })
}

/** `POST /v1/models/import`. */
export const importFile = async (gateway: GatewayContext, context: RequestContext, body: BodyFields.Fields) => {
  checked(context, body, importBody)
  const { read } = importBody
  const path = read.modelPath(body)
  const options = { path, name: read.model(body), copy: read.option(body) === "copy" }
  const { name } = await run(gateway, context, "import", options)
  changed(gateway.events, { action: "create", model: String(name), server })
  context.json({ message: "Model is imported successfully!", modelHandle: name, result: "OK" })
}

/** `PATCH /v1/models/{id}`: how it is started from the next time on. */
export const change = async (
  gateway: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields,
  id: string
): Promise<void> => {
  checked(context, body, changeBody)
  const changes = { ...optionsOf(body), ...unset(body) }
  const { model, settings } = await run(gateway, context, "configure", { model: id, settings: changes })
  context.json({ message: "It holds from the next start on.", result: "Updated", model, settings })
}

/** `DELETE /v1/models/{id}`. */
export const remove = async (gateway: GatewayContext, context: RequestContext, id: string): Promise<void> => {
  const { model } = await run(gateway, context, "remove", { model: id })
  changed(gateway.events, { action: "remove", model: String(model), server })
  context.json({ id: model, object: "model", deleted: true, message: "Deleted successfully!", result: "Deleted" })
}

/** What is known of a model of this machine, for `GET /v1/models/{id}`. */
export const factsOf = async (gateway: GatewayContext, context: RequestContext, id: string): Promise<object> => {
  const found = gateway.local?.models().find(({ name, names }) => name === id || names.includes(id))
  if (found === undefined) return {}
  const { settings } = await run(gateway, context, "settings", { model: found.name })
  return {
    local: {
      model: found.name,
      size: found.size,
      engines: found.engines.map(({ engine, problem, slots, state }) => ({ state, engine, slots, problem })),
      settings
    }
  }
}

/** `GET /v1/hardware`. */
export const hardware = async (gateway: GatewayContext, context: RequestContext): Promise<void> =>
  context.json(await gateway.library.run(controlOf(gateway).hardware).result)

/** `GET /v1/engines`. */
export const engines = async (gateway: GatewayContext, context: RequestContext): Promise<void> => {
  const all = await gateway.library.run(controlOf(gateway).engines).result
  context.json({
    object: "list",
    data: all.map(({ about, install, name, program, reason }) => ({
      name,
      description: about,
      status: program === undefined ? "NotInstalled" : "Ready",
      ...(reason === undefined ? {} : { reason }),
      ...(install === undefined ? {} : { install })
    }))
  })
}
