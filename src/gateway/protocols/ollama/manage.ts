/** Model management on the servers: pull, create, push, copy, delete, load and unload. */
import * as Duration from "../../../internal/duration.js"
import * as Management from "../../../management/models.js"
import { mostRoom, withModel } from "../../../management/targets.js"
import * as UpstreamControl from "../../../management/upstreamControl.js"
import { changed, Progress } from "../../events/downloads.js"
import * as Upstream from "../../events/upstream.js"
import type { GatewayContext } from "../../GatewayContext.js"
import type * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import { type ErrorResponse, ollama as ollamaProblem, RequestRejected } from "../../http/errorResponse.js"
import type { RequestContext } from "../../http/RequestContext.js"
import * as ModelAccess from "../../keys/modelAccess.js"
import * as Permissions from "../../permissions.js"
import type { GatewayRequest } from "../../pipeline/gatewayRequest.js"
import * as ModelSelection from "../../pipeline/modelSelection.js"
import { timestamp } from "./codec.js"
import * as Go from "./goFields.js"
import * as Listings from "./listings.js"
import { messagesField } from "./request.js"
import { type KnownServer, nameOf, serverError } from "./servers.js"
import * as Targets from "./targets.js"
import * as Validation from "./validation.js"

const streamed = Go.flag({ default: true })
/** Passed on to the server. */
const credentials = { insecure: Go.flag(), username: Go.text(), password: Go.text() }

/** The body of `/api/pull`. */
export const pullBody = Go.body("PullRequest", { ...Go.named, server: Go.server, ...credentials, stream: streamed })

/** The body of `/api/push`. */
export const pushBody = Go.body("PushRequest", { ...Go.named, server: Go.server, ...credentials, stream: streamed })

/** The body of `/api/create`. */
export const createBody = Go.body("CreateRequest", {
  ...Go.named,
  from: Go.text({ doc: "The model that it is made from." }),
  files: Go.map({ doc: "The files that it is made of: a digest of /api/blobs for each name." }, "map[string]string"),
  adapters: Go.map({}, "map[string]string"),
  quantize: Go.text(),
  template: Go.text(),
  system: Go.text(),
  parameters: Go.map(),
  messages: messagesField,
  server: Go.server,
  stream: streamed
})

/** The body of `/api/copy`. */
export const copyBody = Go.body("CopyRequest", {
  source: Body.needed(Go.text()),
  destination: Body.needed(Go.text()),
  server: Go.server
})

/** The body of `/api/delete`. */
export const deleteBody = Go.body("DeleteRequest", { ...Go.named, server: Go.server })

const { read } = createBody

const without = (body: BodyFields.Fields): object => {
  const { server: _, ...rest } = body
  return rest
}

/** The models have changed: the lists are read again before the next request uses them. */
const refresh = ({ library }: GatewayContext): Promise<void> => {
  Upstream.expire(library)
  return library.run(library.registry.refresh).result
}

/** With several servers, each failure names its server. */
const describeFailures = (several: boolean, { label }: KnownServer, errorResponse: ErrorResponse): ErrorResponse =>
  several ? { ...errorResponse, message: `${label}: ${errorResponse.message}` } : errorResponse

const mergeProblems = (
  problems: ReadonlyArray<ErrorResponse>,
  done: ReadonlyArray<string>
): ErrorResponse | undefined => {
  const [first] = problems
  if (first === undefined) return undefined
  const message = problems.map(({ message }) => message).join("; ")
  return done.length === 0
    ? { ...first, message }
    : { ...first, status: 502, message: `${message}; done on ${done.join(", ")}` }
}

// =============================================================================
// Pull, create, push
// =============================================================================

/** Runs a long operation on servers and streams their progress lines, each with its server. */
const streamProgress = async (
  gateway: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields,
  model: string,
  path: Management.LongOperation["path"],
  all: ReadonlyArray<KnownServer>
): Promise<void> => {
  const stream = read.stream(body) ?? true
  const problems: Array<ErrorResponse> = []
  const done: Array<string> = []
  const write = (value: object) => {
    if (!context.headersSent) context.stream("application/x-ndjson")
    context.write(`${JSON.stringify(value)}\n`)
  }
  context.headers["x-aicortex-server"] = all.map(({ label }) => label).join(", ")
  await Promise.all(
    all.map(async (known) => {
      const { label, server } = known
      const action = path === "/api/pull" ? "pull" : path === "/api/push" ? "push" : "create"
      const told = new Progress(gateway.events, { action, model: model.slice(0, 200), server: label })
      try {
        await Management.follow(gateway.library.transport, server, {
          path,
          body: without(body),
          stop: (stop) => context.onDisconnect(stop),
          progress: (line) => {
            const status = typeof line["status"] === "string" ? gateway.labels.redact(line["status"]) : line["status"]
            told.line(String(status), line)
            if (stream) write({ ...line, status, server: label })
          }
        })
        done.push(label)
        told.end()
      } catch (error) {
        if (!(error instanceof UpstreamControl.UpstreamFailed)) throw error
        const problem = serverError(gateway, error)
        told.end(context.redactMessage(problem.message))
        problems.push(describeFailures(all.length > 1, known, problem))
      }
    })
  )
  if (context.disconnected) return
  await refresh(gateway)
  const errorResponse = mergeProblems(problems, done)
  if (errorResponse !== undefined) {
    if (context.headersSent)
      context.end(
        `${JSON.stringify(ollamaProblem({ ...errorResponse, message: context.redactMessage(errorResponse.message) }))}\n`
      )
    else context.sendError(errorResponse)
  } else if (stream) {
    write({ status: "success" })
    context.end()
  } else context.json({ status: "success" })
}

/**
 * `POST /api/pull`: on the named servers; else on those that have the model (an update); else on the one with the most
 * room. Each progress line names its server.
 */
export const pull = async (
  gateway: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields
): Promise<void> => {
  pullBody.check(body)
  const name = nameOf(body, "invalid model name")
  if (!Validation.isName(name)) Validation.refuse(400, "invalid model name", null, "model")
  const { all, named } = await Targets.targetsOf(gateway, context, body)
  const have = named ?? withModel(all, name)
  const chosen = have.length > 0 ? have : [await mostRoom(gateway.library.transport, all)]
  await streamProgress(gateway, context, body, name, "/api/pull", chosen)
}

/**
 * `POST /api/create`: on the server that is named; else on one that has the model which it is made from, the one with most
 * room of several. Files were sent to one server (see `blobs`), which must be named where there are several.
 */
export const create = async (
  gateway: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields
): Promise<void> => {
  createBody.check(body)
  const name = nameOf(body, "invalid model name")
  if (!Validation.isName(name)) Validation.refuse(400, "invalid model name", null, "model")
  const from = read.from(body) ?? ""
  if (from === "" && read.files(body) === undefined) {
    Validation.refuse(400, "neither 'from' or 'files' was specified", "missing_required_parameter", "from")
  }
  const { all, named } = await Targets.targetsOf(gateway, context, body)
  // Blobs were uploaded to one server, and only the client knows which.
  const files = read.files(body) !== undefined || read.adapters(body) !== undefined
  if (named === undefined && files && all.length > 1) throw Targets.unnamed(all, "has the files")
  const have = withModel(all, from)
  const [first, ...others] = have
  const chosen = named ?? [await mostRoom(gateway.library.transport, first === undefined ? all : [first, ...others])]
  await streamProgress(gateway, context, body, name, "/api/create", chosen)
}

/** `POST /api/push`: from the named server, else from the first that has the model. */
export const push = async (
  gateway: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields
): Promise<void> => {
  pushBody.check(body)
  const name = nameOf(body, "model is required")
  const { all, named } = await Targets.targetsOf(gateway, context, body)
  const chosen = (named ?? withModel(all, name)).slice(0, 1)
  if (chosen.length === 0) Validation.refuse(404, Validation.notFound("/api/push", name), "model_not_found", "model")
  await streamProgress(gateway, context, body, name, "/api/push", chosen)
}

// =============================================================================
// Copy, delete
// =============================================================================

/** On the named servers, else on all that have the model. */
const change = async (
  gateway: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields,
  model: string,
  method: "POST" | "DELETE",
  path: string
): Promise<void> => {
  context.record.model = model
  const { all, named } = await Targets.targetsOf(gateway, context, body)
  const have = named ?? withModel(all, model)
  // The list may be older than the model.
  const targets = have.length > 0 ? have : all
  const problems: Array<ErrorResponse> = []
  const done: Array<string> = []
  await Promise.all(
    targets.map(async (known) => {
      try {
        const question = { method, path, body: without(body), timeout: Management.changeTimeout }
        await UpstreamControl.send(gateway.library.transport, known.server, question)
        done.push(known.label)
        changed(gateway.events, { action: method === "DELETE" ? "remove" : "copy", model, server: known.label })
      } catch (error) {
        if (!(error instanceof UpstreamControl.UpstreamFailed)) throw error
        problems.push(describeFailures(targets.length > 1, known, serverError(gateway, error)))
      }
    })
  )
  await refresh(gateway)
  const serious = problems.filter(({ status }) => status !== 404)
  if (done.length === 0 && serious.length === 0) {
    Validation.refuse(404, Validation.notFound(path, model), "model_not_found", "model")
  }
  context.headers["x-aicortex-server"] = done.join(", ")
  const errorResponse = mergeProblems(serious, done)
  if (errorResponse === undefined) context.send(200, "application/json; charset=utf-8", "")
  else context.sendError(errorResponse)
}

/** Validates a model name; the error says which field is invalid. */
const valid = (field: "name" | "source" | "destination", given: string | undefined): string => {
  const name = given ?? ""
  if (name.trim() === "" || !Validation.isName(name)) {
    const shown = name.length > 100 ? `${name.slice(0, 100)}…` : name
    Validation.refuse(400, `${field} ${JSON.stringify(shown)} is invalid`, "missing_required_parameter", field)
  }
  return name
}

/** `DELETE /api/delete`: on every server that has the model, unless one is named. */
export const remove = async (
  gateway: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields
): Promise<void> => {
  deleteBody.check(body)
  const name = valid("name", read.model(body) || read.name(body))
  await change(gateway, context, body, name, "DELETE", "/api/delete")
}

/** `POST /api/copy`: on every server that has the model, unless one is named. */
export const copy = async (
  gateway: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields
): Promise<void> => {
  copyBody.check(body)
  const source = valid("source", copyBody.read.source(body))
  valid("destination", copyBody.read.destination(body))
  await change(gateway, context, body, source, "POST", "/api/copy")
}

// =============================================================================
// Load, unload
// =============================================================================

/**
 * A request without a prompt loads a model on the server that would answer, or, with `keep_alive: 0`, unloads it
 * everywhere; `X-Aicortex-Target` names one server. Other servers than Ollama keep their models loaded: nothing to do.
 */
export const load = async (
  gateway: GatewayContext,
  context: RequestContext,
  gatewayRequest: GatewayRequest,
  generates: boolean
): Promise<void> => {
  Permissions.check(gateway.settings, context.manages, gatewayRequest.request)
  const named = gatewayRequest.model ?? ModelSelection.defaultModel(gateway)
  ModelAccess.check(gateway, context, named)
  const model = await Listings.resolveModel(gateway, named)
  const hosts = await gateway.library.run(gateway.library.locate(model)).result
  const target = context.request.headers["x-aicortex-target"]
  const able = hosts.filter(
    ({ protocol, server: { url } }) =>
      protocol === "ollama" && (target === undefined || target === "all" || gateway.labels.label(url) === target)
  )
  const { keepAlive } = gatewayRequest.request
  const unload = (typeof keepAlive === "string" ? Duration.parse(keepAlive) : keepAlive) === 0
  let chosen = able
  if (!unload && able.length > 1) {
    const best = await gateway.library.run(gateway.library.router.best(model, gateway.routing)).result
    chosen = able
      .filter((host) => host.server.url === best.url)
      .concat(able)
      .slice(0, 1)
  }
  await Promise.all(
    chosen.map(async (host) => {
      try {
        await UpstreamControl.send(gateway.library.transport, host.server, {
          method: "POST",
          path: "/api/generate",
          body: { model: host.model, stream: false, ...(keepAlive === undefined ? {} : { keep_alive: keepAlive }) },
          timeout: Management.stallTimeout,
          stop: (stop) => context.onDisconnect(stop)
        })
        Upstream.expire(gateway.library)
        changed(gateway.events, {
          action: unload ? "unload" : "load",
          model: host.model,
          server: gateway.labels.label(host.server.url)
        })
      } catch (error) {
        if (error instanceof UpstreamControl.UpstreamFailed) throw new RequestRejected(serverError(gateway, error))
        throw error
      }
    })
  )
  context.json({
    model: named,
    created_at: timestamp(),
    ...(generates ? { response: "" } : { message: { role: "assistant", content: "" } }),
    done: true,
    done_reason: unload ? "unload" : "load"
  })
}
