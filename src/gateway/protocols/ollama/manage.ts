/**
 * Changes of what servers have: models are pulled, made, pushed, copied and deleted, loaded and unloaded.
 *
 * @since 0.1.0
 */
import * as Duration from "../../../internal/duration.js"
import type { House } from "../../GatewayContext.js"
import * as Fields from "../../http/body.js"
import { ollama as ollamaProblem, type Problem, Refusal } from "../../http/errorResponse.js"
import type { Exchange } from "../../http/RequestContext.js"
import * as Rights from "../../permissions.js"
import type { Ask } from "../../pipeline/gatewayRequest.js"
import * as Selection from "../../pipeline/modelSelection.js"
import * as Control from "../../pipeline/upstreamControl.js"
import { timestamp } from "./codec.js"
import * as Lists from "./listings.js"
import { failed, type Known, nameOf } from "./servers.js"
import * as Targets from "./targets.js"
import * as Wire from "./validation.js"

/** How long a download may stand still, in milliseconds. */
const pullTimeout = 300_000

const without = (body: Fields.Fields): object => {
  const { server: _, ...rest } = body
  return rest
}

/** The lists have changed: they are read again before anybody is answered from them. */
const refresh = (house: House): Promise<void> => house.library.run(house.library.registry.refresh).result

/** Of several servers each failure says whose it is. */
const told = (several: boolean, { label }: Known, problem: Problem): Problem =>
  several ? { ...problem, message: `${label}: ${problem.message}` } : problem

const joined = (problems: ReadonlyArray<Problem>, done: ReadonlyArray<string>): Problem | undefined => {
  const [first] = problems
  if (first === undefined) return undefined
  const message = problems.map(({ message }) => message).join("; ")
  return done.length === 0
    ? { ...first, message }
    : { ...first, status: 502, message: `${message}; done on ${done.join(", ")}` }
}

// =============================================================================
// pull, create, push
// =============================================================================

/** Has servers do something that takes long, and tells each line of their progress, with the server that says it. */
const progress = async (
  house: House,
  exchange: Exchange,
  body: Fields.Fields,
  path: string,
  all: ReadonlyArray<Known>
): Promise<void> => {
  const stream = Fields.flag(body, "stream") ?? true
  const problems: Array<Problem> = []
  const done: Array<string> = []
  const write = (value: object) => {
    if (!exchange.headSent) exchange.stream("application/x-ndjson")
    exchange.write(`${JSON.stringify(value)}\n`)
  }
  exchange.headers["x-aicortex-server"] = all.map(({ label }) => label).join(", ")
  await Promise.all(
    all.map(async (known) => {
      const { label, server } = known
      try {
        let last = ""
        let succeeded = false
        await Control.ask(house.library.transport, server, {
          method: "POST",
          path,
          body: { ...without(body), stream: true },
          timeout: pullTimeout,
          stop: (stop) => exchange.onLeave(stop),
          line: (line) => {
            if (line.trim() === "") return
            let item: unknown
            try {
              item = JSON.parse(line)
            } catch {
              return
            }
            if (!Fields.isObject(item)) return
            if (item["error"] !== undefined) {
              throw new Control.ControlFailed({ reason: "server-error", status: 500, message: String(item["error"]) })
            }
            if (item["status"] === "success") {
              succeeded = true
              return
            }
            const status = typeof item["status"] === "string" ? house.labels.redact(item["status"]) : item["status"]
            if (stream && line !== last) write({ ...item, status, server: label })
            last = line
          }
        })
        if (!succeeded) throw new Control.ControlFailed({ reason: "cut", message: "the server stopped too early" })
        done.push(label)
      } catch (error) {
        if (!(error instanceof Control.ControlFailed)) throw error
        problems.push(told(all.length > 1, known, failed(house, error)))
      }
    })
  )
  if (exchange.left) return
  await refresh(house)
  const problem = joined(problems, done)
  if (problem !== undefined) {
    if (exchange.headSent)
      exchange.end(`${JSON.stringify(ollamaProblem({ ...problem, message: exchange.leaving(problem.message) }))}\n`)
    else exchange.problem(problem)
  } else if (stream) {
    write({ status: "success" })
    exchange.end()
  } else exchange.json({ status: "success" })
}

/**
 * `POST /api/pull`: on the servers that are named; else anew on those that have the model; else on the one with most room.
 * Each line says which server it is about.
 *
 * @since 0.1.0
 * @category handlers
 */
export const pull = async (house: House, exchange: Exchange, body: Fields.Fields): Promise<void> => {
  Wire.check("PullRequest", body)
  const name = nameOf(body, "invalid model name")
  if (!Wire.isName(name)) Wire.refuse(400, "invalid model name", null, "model")
  const { all, named } = await Targets.of(house, exchange, body)
  const have = named ?? Targets.having(all, name)
  const chosen = have.length > 0 ? have : [await Targets.roomiest(house, all)]
  await progress(house, exchange, body, "/api/pull", chosen)
}

/**
 * `POST /api/create`: on the server that is named; else on one that has the model which it is made from, the one with most
 * room of several. Files were sent to one server (see `blobs`), which must be named where there are several.
 *
 * @since 0.1.0
 * @category handlers
 */
export const create = async (house: House, exchange: Exchange, body: Fields.Fields): Promise<void> => {
  Wire.check("CreateRequest", body)
  const name = nameOf(body, "invalid model name")
  if (!Wire.isName(name)) Wire.refuse(400, "invalid model name", null, "model")
  const from = Fields.text(body, "from") ?? ""
  if (from === "" && !Fields.isObject(body["files"])) {
    Wire.refuse(400, "neither 'from' or 'files' was specified", "missing_required_parameter", "from")
  }
  const { all, named } = await Targets.of(house, exchange, body)
  // Files were sent to one server beforehand, and only the client knows to which.
  const files = Fields.isObject(body["files"]) || Fields.isObject(body["adapters"])
  if (named === undefined && files && all.length > 1) throw Targets.unnamed(all, "has the files")
  const have = Targets.having(all, from)
  const chosen = named ?? [await Targets.roomiest(house, have.length > 0 ? have : all)]
  await progress(house, exchange, body, "/api/create", chosen)
}

/**
 * `POST /api/push`: from the server that is named, else from the first that has the model.
 *
 * @since 0.1.0
 * @category handlers
 */
export const push = async (house: House, exchange: Exchange, body: Fields.Fields): Promise<void> => {
  Wire.check("PushRequest", body)
  const name = nameOf(body, "model is required")
  const { all, named } = await Targets.of(house, exchange, body)
  const chosen = (named ?? Targets.having(all, name)).slice(0, 1)
  if (chosen.length === 0) Wire.refuse(404, Wire.notFound("/api/push", name), "model_not_found", "model")
  await progress(house, exchange, body, "/api/push", chosen)
}

// =============================================================================
// copy, delete
// =============================================================================

/** On the servers that are named, else on all that have the model. */
const change = async (
  house: House,
  exchange: Exchange,
  body: Fields.Fields,
  model: string,
  method: "POST" | "DELETE",
  path: string
): Promise<void> => {
  exchange.account.model = model
  const { all, named } = await Targets.of(house, exchange, body)
  const have = named ?? Targets.having(all, model)
  // A list may be older than the model.
  const asked = have.length > 0 ? have : all
  const problems: Array<Problem> = []
  const done: Array<string> = []
  await Promise.all(
    asked.map(async (known) => {
      try {
        const question = { method, path, body: without(body), timeout: 60_000 }
        await Control.ask(house.library.transport, known.server, question)
        done.push(known.label)
      } catch (error) {
        if (!(error instanceof Control.ControlFailed)) throw error
        problems.push(told(asked.length > 1, known, failed(house, error)))
      }
    })
  )
  await refresh(house)
  const serious = problems.filter(({ status }) => status !== 404)
  if (done.length === 0 && serious.length === 0) {
    Wire.refuse(404, Wire.notFound(path, model), "model_not_found", "model")
  }
  exchange.headers["x-aicortex-server"] = done.join(", ")
  const problem = joined(serious, done)
  if (problem === undefined) exchange.send(200, "application/json; charset=utf-8", "")
  else exchange.problem(problem)
}

/** A name that Ollama can have; it says which of several is none. */
const valid = (field: "name" | "source" | "destination", given: string | undefined): string => {
  const name = given ?? ""
  if (name.trim() === "" || !Wire.isName(name)) {
    const shown = name.length > 100 ? `${name.slice(0, 100)}…` : name
    Wire.refuse(400, `${field} ${JSON.stringify(shown)} is invalid`, "missing_required_parameter", field)
  }
  return name
}

/**
 * `DELETE /api/delete`: on every server that has the model, unless one is named.
 *
 * @since 0.1.0
 * @category handlers
 */
export const remove = async (house: House, exchange: Exchange, body: Fields.Fields): Promise<void> => {
  Wire.check("DeleteRequest", body)
  const name = valid("name", Fields.text(body, "model") || Fields.text(body, "name"))
  await change(house, exchange, body, name, "DELETE", "/api/delete")
}

/**
 * `POST /api/copy`: on every server that has the model, unless one is named.
 *
 * @since 0.1.0
 * @category handlers
 */
export const copy = async (house: House, exchange: Exchange, body: Fields.Fields): Promise<void> => {
  Wire.check("CopyRequest", body)
  const source = valid("source", Fields.text(body, "source"))
  valid("destination", Fields.text(body, "destination"))
  await change(house, exchange, body, source, "POST", "/api/copy")
}

// =============================================================================
// load, unload
// =============================================================================

/**
 * A request without a prompt: a model is loaded on the server that would answer, or, with `keep_alive: 0`, unloaded
 * wherever it is. Other servers than Ollama's hold their models always: there is nothing to do.
 *
 * @since 0.1.0
 * @category handlers
 */
export const load = async (house: House, exchange: Exchange, ask: Ask, generates: boolean): Promise<void> => {
  Rights.check(house.settings, exchange.admin, ask.request)
  const named = ask.model ?? Selection.defaultModel(house)
  const model = await Lists.meant(house, named)
  const hosts = await house.library.run(house.library.locate(model)).result
  const able = hosts.filter((host) => host.protocol === "ollama")
  const { keepAlive } = ask.request
  const unload = (typeof keepAlive === "string" ? Duration.parse(keepAlive) : keepAlive) === 0
  let chosen = able
  if (!unload && able.length > 1) {
    const best = await house.library.run(house.library.router.best(model, house.routing)).result
    chosen = able
      .filter((host) => host.server.url === best.url)
      .concat(able)
      .slice(0, 1)
  }
  await Promise.all(
    chosen.map(async (host) => {
      try {
        await Control.ask(house.library.transport, host.server, {
          method: "POST",
          path: "/api/generate",
          body: { model: host.model, stream: false, ...(keepAlive === undefined ? {} : { keep_alive: keepAlive }) },
          timeout: pullTimeout,
          stop: (stop) => exchange.onLeave(stop)
        })
      } catch (error) {
        if (error instanceof Control.ControlFailed) throw new Refusal(failed(house, error))
        throw error
      }
    })
  )
  exchange.json({
    model: named,
    created_at: timestamp(),
    ...(generates ? { response: "" } : { message: { role: "assistant", content: "" } }),
    done: true,
    done_reason: unload ? "unload" : "load"
  })
}
